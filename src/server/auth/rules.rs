//! The permissions of a registry snapshot, and what they decide
//! (`feast/permissions/enforcer.py`, `matcher.py`, `policy.py`).
//!
//! Which permissions are about which objects does not depend on who asks: a [`Guard`] settles
//! it once, for a read together with its plan. Words are Feast's, for clients show them.

use std::sync::Arc;

use super::gate::Principal;
use super::pattern::Pattern;
use super::user::User;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::catalog::Tags;
use crate::registry::{
    Action, Catalog, FeatureService, FeatureView, ObjectType, OnDemandSource, Permission, Policy,
    ViewKind,
};

/// All permissions of one snapshot.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
    // Where there are none at all, every user may do everything.
    has_permissions: bool,
}

#[derive(Debug)]
struct Rule {
    permission: Permission,
    // `None`: any name.
    names: Option<Vec<Pattern>>,
}

/// An object that somebody wants to do something with.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    class: Class,
    name: &'a str,
    tags: &'a Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    FeatureView,
    BatchFeatureView,
    StreamFeatureView,
    OnDemandFeatureView,
    LabelView,
    FeatureService,
}

/// Whom some objects are open to for some actions.
#[derive(Debug, Default)]
pub struct Guard {
    // One for each object; the first that refuses decides.
    checks: Vec<Check>,
}

#[derive(Debug)]
enum Check {
    /// Every user.
    EveryUser,
    /// Nobody, and why.
    Nobody(String),
    /// Users whom one of these rules lets in; of each, what it says to the others.
    AnyOf(Vec<(Arc<Rule>, String)>),
}

impl Rules {
    /// The permissions of `catalog`. Those that can't let anybody in are logged.
    pub fn new(catalog: &Catalog) -> Self {
        let is_usable = |permission: &&Permission| {
            let is_usable = permission.policy != Policy::Unknown;
            if !is_usable {
                log::warn!(
                    "permission '{}' has no policy that the server knows: it lets nobody in",
                    permission.name
                );
            }
            is_usable
        };
        if catalog.permissions.is_empty() {
            log::warn!(
                "project '{}' has no permissions: every user may do everything; define some and \
                 run 'feast apply'",
                catalog.project
            );
        }
        let rules = catalog.permissions.iter().filter(is_usable).map(|permission| {
            let pattern = |text: &String| Pattern::new(text, &permission.name);
            let names = permission.name_patterns.iter().map(pattern).collect::<Vec<_>>();
            let names = (!names.is_empty()).then_some(names);
            Arc::new(Rule { permission: permission.clone(), names })
        });
        Rules { rules: rules.collect(), has_permissions: !catalog.permissions.is_empty() }
    }

    /// Whom all of `resources` are open to for all of `actions`.
    pub fn guard<'a>(
        &self,
        resources: impl IntoIterator<Item = Resource<'a>>,
        actions: &[Action],
    ) -> Guard {
        let check = |resource: Resource<'a>| self.check(&resource, actions);
        Guard { checks: resources.into_iter().map(check).collect() }
    }

    /// Whom a read is open to: of a service, itself; else each of `views`, which are in the order
    /// of mention, with the views that on-demand views are computed from, then these
    /// (`feast/feature_server.py::_get_features`). What is not in the registry is guarded by its
    /// name, though a read of it has no plan.
    pub fn read_guard(&self, catalog: &Catalog, service: Option<&str>, views: &[String]) -> Guard {
        const READ: &[Action] = &[Action::ReadOnline];
        match service {
            None => self.guard(with_sources(catalog, views), READ),
            Some(name) => match catalog.service(name) {
                Ok(service) => self.guard([Resource::service(service)], READ),
                Err(_) => self.guard([Resource::missing(Class::FeatureService, name)], READ),
            },
        }
    }

    fn check(&self, resource: &Resource<'_>, actions: &[Action]) -> Check {
        if !self.has_permissions {
            return Check::EveryUser;
        }
        let about = self.rules.iter().filter(|rule| rule.is_about(resource, actions));
        let rules: Vec<_> =
            about.map(|rule| (rule.clone(), rule.refusal(resource, actions))).collect();
        match rules.is_empty() {
            false => Check::AnyOf(rules),
            true => Check::Nobody(format!(
                "No permissions defined to manage [{}] on <class '{}'>/{}.",
                listed(actions, |action| {
                    format!(
                        "<AuthzedAction.{0}: '{1}'>",
                        action.name(),
                        action.name().to_lowercase()
                    )
                }),
                resource.class.path(),
                resource.name
            )),
        }
    }
}

fn with_sources<'a>(catalog: &'a Catalog, asked: &'a [String]) -> Vec<Resource<'a>> {
    let (mut views, mut computed): (Vec<Resource<'a>>, Vec<Resource<'a>>) = (vec![], vec![]);
    let note = |views: &mut Vec<Resource<'a>>, name: &'a str| {
        if views.iter().all(|known| known.name != name) {
            let missing = Resource::missing(Class::FeatureView, name);
            views.push(catalog.view(name).map_or(missing, Resource::view));
        }
    };
    for name in asked {
        let on_demand = catalog.view(name).ok().filter(|view| view.kind == ViewKind::OnDemand);
        let Some(view) = on_demand else {
            note(&mut views, name);
            continue;
        };
        note(&mut computed, name);
        for source in view.on_demand_sources.values() {
            if let OnDemandSource::View(projection) = source {
                note(&mut views, &projection.view);
            }
        }
    }
    views.append(&mut computed);
    views
}

impl Rule {
    fn is_about(&self, resource: &Resource<'_>, actions: &[Action]) -> bool {
        let Permission { types, required_tags, actions: allowed, .. } = &self.permission;
        let has_tag = |(name, value): (&String, &String)| resource.tags.get(name) == Some(value);
        (types.is_empty() || types.iter().any(|object| resource.class.is_a(*object)))
            && self
                .names
                .as_ref()
                .is_none_or(|names| names.iter().any(|one| one.matches(resource.name)))
            && required_tags.iter().all(has_tag)
            && actions.iter().all(|action| allowed.contains(action))
    }

    fn lets_in(&self, user: &User) -> bool {
        let has = |own: &[String], some: &[String]| some.iter().any(|one| own.contains(one));
        match &self.permission.policy {
            Policy::Roles(roles) => has(&user.roles, roles),
            // A user of an identity provider has no namespaces.
            Policy::Groups(groups) | Policy::GroupsOrNamespaces(groups, _) => {
                has(&user.groups, groups)
            }
            Policy::Namespaces(_) | Policy::Unknown => false,
        }
    }

    fn refusal(&self, resource: &Resource<'_>, actions: &[Action]) -> String {
        let needs = match &self.permission.policy {
            Policy::Roles(roles) => {
                format!("Requires roles [{}]", listed(roles, |role| quoted(role)))
            }
            Policy::Groups(_) => "User is not added into the permitted groups".to_owned(),
            Policy::Namespaces(_) => "User is not added into the permitted namespaces".to_owned(),
            Policy::GroupsOrNamespaces(..) | Policy::Unknown => {
                "User must be in at least one of the permitted groups or namespaces".to_owned()
            }
        };
        format!(
            "Permission {} denied execution of [{}] to {}:{}: {needs}",
            self.permission.name,
            listed(actions, |action| quoted(action.name())),
            resource.class.name(),
            resource.name
        )
    }
}

impl Guard {
    /// Whether `principal` may.
    ///
    /// Errors: they may not, in Feast's words.
    pub fn check(&self, principal: &Principal) -> Result<()> {
        let Principal::User(user) = principal else { return Ok(()) };
        self.checks.iter().try_for_each(|check| check.lets_in(user))
    }
}

impl Check {
    fn lets_in(&self, user: &User) -> Result<()> {
        match self {
            Check::EveryUser if !user.name.is_empty() => Ok(()),
            Check::EveryUser => Err(denied(
                "No permissions defined and no authenticated user context. Access denied.",
            )),
            Check::Nobody(why) => Err(denied(why)),
            Check::AnyOf(rules) if rules.iter().any(|(rule, _)| rule.lets_in(user)) => Ok(()),
            Check::AnyOf(rules) => {
                let refusals = rules.iter().map(|(_, refusal)| refusal.as_str());
                Err(denied(&refusals.collect::<Vec<_>>().join(",")))
            }
        }
    }
}

#[cold]
fn denied(details: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("Permission error:\n{details}"))
}

impl<'a> Resource<'a> {
    /// A feature view of any kind.
    pub fn view(view: &'a FeatureView) -> Self {
        let class = match view.kind {
            // What Feast makes of one when it reads the registry.
            ViewKind::Batch if view.has_transformation() => Class::BatchFeatureView,
            ViewKind::Batch => Class::FeatureView,
            ViewKind::Stream => Class::StreamFeatureView,
            ViewKind::OnDemand => Class::OnDemandFeatureView,
            ViewKind::Label => Class::LabelView,
        };
        Resource { class, name: &view.name, tags: &view.tags }
    }

    /// What the registry does not have (any more): no tag of it is known.
    fn missing(class: Class, name: &'a str) -> Self {
        static NO_TAGS: Tags = Tags::new();
        Resource { class, name, tags: &NO_TAGS }
    }

    /// A feature service.
    pub fn service(service: &'a FeatureService) -> Self {
        Resource { class: Class::FeatureService, name: &service.name, tags: &service.tags }
    }
}

impl Class {
    /// Whether an object of this class is of that type, as Python's `isinstance` has it.
    fn is_a(self, object: ObjectType) -> bool {
        match object {
            ObjectType::FeatureView => {
                matches!(
                    self,
                    Class::FeatureView | Class::BatchFeatureView | Class::StreamFeatureView
                )
            }
            ObjectType::BatchFeatureView => self == Class::BatchFeatureView,
            ObjectType::StreamFeatureView => self == Class::StreamFeatureView,
            ObjectType::OnDemandFeatureView => self == Class::OnDemandFeatureView,
            ObjectType::LabelView => self == Class::LabelView,
            ObjectType::FeatureService => self == Class::FeatureService,
            ObjectType::Other => false,
        }
    }

    /// Where the class is in Feast.
    fn path(self) -> &'static str {
        match self {
            Class::FeatureView => "feast.feature_view.FeatureView",
            Class::BatchFeatureView => "feast.batch_feature_view.BatchFeatureView",
            Class::StreamFeatureView => "feast.stream_feature_view.StreamFeatureView",
            Class::OnDemandFeatureView => "feast.on_demand_feature_view.OnDemandFeatureView",
            Class::LabelView => "feast.labeling.label_view.LabelView",
            Class::FeatureService => "feast.feature_service.FeatureService",
        }
    }

    fn name(self) -> &'static str {
        self.path().rsplit('.').next().unwrap_or_default()
    }
}

/// As Python prints the members of a list.
fn listed<T>(items: &[T], print: impl Fn(&T) -> String) -> String {
    items.iter().map(print).collect::<Vec<_>>().join(", ")
}

/// As Python prints a text.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c == quote => {
                quoted.push('\\');
                quoted.push(c);
            }
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(permissions: Vec<Permission>) -> Rules {
        Rules::new(&Catalog { permissions, ..Catalog::default() })
    }

    fn permission(name: &str, actions: &[Action], policy: Policy) -> Permission {
        Permission {
            name: name.to_owned(),
            actions: actions.to_vec(),
            policy,
            ..Permission::default()
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn user(roles: &[&str], groups: &[&str]) -> Principal {
        Principal::User(Arc::new(User {
            name: "ann".to_owned(),
            roles: texts(roles),
            groups: texts(groups),
        }))
    }

    static TAGS: Tags = Tags::new();
    const STATS: Resource<'static> =
        Resource { class: Class::FeatureView, name: "stats", tags: &TAGS };

    fn ask(rules: &Rules, principal: &Principal, actions: &[Action]) -> Result<()> {
        rules.guard([STATS], actions).check(principal)
    }

    #[test]
    fn without_permissions_every_user_may_and_with_one_nobody_else() {
        assert!(ask(&rules(vec![]), &user(&[], &[]), &[Action::WriteOnline]).is_ok());
        let nameless = Principal::User(Arc::default());
        assert!(ask(&rules(vec![]), &nameless, &[Action::ReadOnline]).is_err());
        // It lets nobody in, and is a permission nevertheless.
        let unknown = rules(vec![permission("p", &[Action::ReadOnline], Policy::Unknown)]);
        assert!(ask(&unknown, &user(&["a"], &["a"]), &[Action::ReadOnline]).is_err());
        assert!(ask(&unknown, &Principal::Anyone, &[Action::ReadOnline]).is_ok());
    }

    #[test]
    fn one_permission_must_have_all_actions_and_one_policy_lets_in() {
        let (read, write) = (Action::ReadOnline, Action::WriteOnline);
        let rules = rules(vec![
            permission("r", &[read], Policy::Roles(texts(&["reader", "it's"]))),
            permission("w", &[write], Policy::Groups(texts(&["writers"]))),
            permission("n", &[read], Policy::GroupsOrNamespaces(texts(&["g"]), texts(&["n"]))),
        ]);

        assert!(ask(&rules, &user(&["reader"], &[]), &[read]).is_ok());
        assert!(ask(&rules, &user(&[], &["g"]), &[read]).is_ok());
        assert!(ask(&rules, &user(&["reader"], &[]), &[write]).is_err());
        assert!(ask(&rules, &user(&["reader"], &["writers"]), &[read, write]).is_err());

        let refused = ask(&rules, &user(&[], &["n"]), &[read]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert_eq!(
            refused.to_string(),
            "Permission error:\nPermission r denied execution of ['READ_ONLINE'] to \
             FeatureView:stats: Requires roles ['reader', \"it's\"],Permission n denied execution \
             of ['READ_ONLINE'] to FeatureView:stats: User must be in at least one of the \
             permitted groups or namespaces"
        );
        let nobody = ask(&rules, &user(&[], &[]), &[Action::WriteOffline, write]).unwrap_err();
        assert_eq!(
            nobody.to_string(),
            "Permission error:\nNo permissions defined to manage [<AuthzedAction.WRITE_OFFLINE: \
             'write_offline'>, <AuthzedAction.WRITE_ONLINE: 'write_online'>] on <class \
             'feast.feature_view.FeatureView'>/stats."
        );
    }

    #[test]
    fn types_names_and_tags_narrow_a_permission() {
        let open = permission("p", &[Action::ReadOnline], Policy::Roles(texts(&["a"])));
        let may = |permission: Permission| {
            ask(&rules(vec![permission]), &user(&["a"], &[]), &[Action::ReadOnline]).is_ok()
        };
        assert!(may(open.clone()));
        assert!(may(Permission { types: vec![ObjectType::FeatureView], ..open.clone() }));
        assert!(!may(Permission { types: vec![ObjectType::BatchFeatureView], ..open.clone() }));
        assert!(!may(Permission { types: vec![ObjectType::Other], ..open.clone() }));
        assert!(may(Permission { name_patterns: texts(&["x", "st.*"]), ..open.clone() }));
        assert!(!may(Permission { name_patterns: texts(&["st"]), ..open.clone() }));
        let tags = Tags::from([("team".to_owned(), "a".to_owned())]);
        assert!(!may(Permission { required_tags: tags, ..open }));
        assert!(Class::StreamFeatureView.is_a(ObjectType::FeatureView));
        assert!(!Class::OnDemandFeatureView.is_a(ObjectType::FeatureView));
    }
}

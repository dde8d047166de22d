//! Permissions as `feast apply` wrote them down (`feast/permissions/permission.py`). Must not
//! know who asks: the server decides.
//!
//! What a newer Feast may have put into one never makes it wider than it was meant: a type, an
//! action or a policy that is not known here matches nothing and grants nothing.

use super::catalog::Tags;
use super::messages as pb;

/// Who may do what with which objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// The permission's name.
    pub name: String,
    /// The types of objects that it is about; empty: all.
    pub types: Vec<ObjectType>,
    /// Regular expressions, as Python's `re` has them, one of which an object's whole name
    /// matches; empty: any name does.
    pub name_patterns: Vec<String>,
    /// Tags that an object must have.
    pub required_tags: Tags,
    /// What it allows.
    pub actions: Vec<Action>,
    /// Whom it allows it.
    pub policy: Policy,
}

/// `PermissionSpec.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectType {
    /// `FeatureView`, batch and stream views included.
    FeatureView,
    /// `OnDemandFeatureView`.
    OnDemandFeatureView,
    /// `BatchFeatureView`.
    BatchFeatureView,
    /// `StreamFeatureView`.
    StreamFeatureView,
    /// `FeatureService`.
    FeatureService,
    /// `LabelView`.
    LabelView,
    /// Something that is not served: an entity, a data source, a project, …; or what a newer
    /// Feast has.
    Other,
}

/// `PermissionSpec.AuthzedAction`: what a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To create the object.
    Create,
    /// To look at its definition.
    Describe,
    /// To change its definition.
    Update,
    /// To delete it.
    Delete,
    /// To read its rows from the online store.
    ReadOnline,
    /// To read its rows from the offline store.
    ReadOffline,
    /// To write rows to the online store.
    WriteOnline,
    /// To write rows to the offline store.
    WriteOffline,
}

/// Whom a permission allows something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Users with one of these roles.
    Roles(Vec<String>),
    /// Users in one of these groups.
    Groups(Vec<String>),
    /// Users in one of these namespaces.
    Namespaces(Vec<String>),
    /// Users in one of these groups or namespaces.
    GroupsOrNamespaces(Vec<String>, Vec<String>),
    /// Nobody: there is none, or one that a newer Feast has.
    #[default]
    Unknown,
}

impl Action {
    /// Feast's name of it, in capitals.
    pub fn name(self) -> &'static str {
        match self {
            Action::Create => "CREATE",
            Action::Describe => "DESCRIBE",
            Action::Update => "UPDATE",
            Action::Delete => "DELETE",
            Action::ReadOnline => "READ_ONLINE",
            Action::ReadOffline => "READ_OFFLINE",
            Action::WriteOnline => "WRITE_ONLINE",
            Action::WriteOffline => "WRITE_OFFLINE",
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => Action::Create,
            1 => Action::Describe,
            2 => Action::Update,
            3 => Action::Delete,
            4 => Action::ReadOnline,
            5 => Action::ReadOffline,
            6 => Action::WriteOnline,
            7 => Action::WriteOffline,
            _ => return None,
        })
    }
}

impl ObjectType {
    fn from_number(number: i32) -> Self {
        match number {
            0 => ObjectType::FeatureView,
            1 => ObjectType::OnDemandFeatureView,
            2 => ObjectType::BatchFeatureView,
            3 => ObjectType::StreamFeatureView,
            5 => ObjectType::FeatureService,
            11 => ObjectType::LabelView,
            _ => ObjectType::Other,
        }
    }
}

impl Permission {
    pub(super) fn from_spec(spec: &pb::PermissionSpec) -> Self {
        Permission {
            name: spec.name.clone(),
            types: spec.types.iter().map(|&number| ObjectType::from_number(number)).collect(),
            // Feast strips them when it makes the object.
            name_patterns: spec.name_patterns.iter().map(|one| one.trim().to_owned()).collect(),
            required_tags: spec.required_tags.clone(),
            actions: spec.actions.iter().filter_map(|&one| Action::from_number(one)).collect(),
            policy: spec.policy.as_ref().map_or(Policy::Unknown, policy),
        }
    }
}

fn policy(policy: &pb::Policy) -> Policy {
    match policy {
        pb::Policy { role_based: Some(roles), .. } => Policy::Roles(roles.names.clone()),
        pb::Policy { group_based: Some(groups), .. } => Policy::Groups(groups.names.clone()),
        pb::Policy { namespace_based: Some(names), .. } => Policy::Namespaces(names.names.clone()),
        pb::Policy { combined: Some(both), .. } => {
            Policy::GroupsOrNamespaces(both.groups.clone(), both.namespaces.clone())
        }
        _ => Policy::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_never_widens_a_permission() {
        let spec = pb::PermissionSpec {
            name: "p".to_owned(),
            types: vec![99],
            name_patterns: vec![" a.* ".to_owned()],
            actions: vec![99, 4],
            policy: Some(pb::Policy::default()),
            ..Default::default()
        };

        let permission = Permission::from_spec(&spec);

        assert_eq!(permission.types, [ObjectType::Other]);
        assert_eq!(permission.actions, [Action::ReadOnline]);
        assert_eq!(permission.policy, Policy::Unknown);
        assert_eq!(permission.name_patterns, ["a.*"]);
    }

    #[test]
    fn enums_are_read_packed_or_not() {
        use prost::Message;
        // types: 0, then 3; actions: 4 and 6 in one.
        let bytes = [0x18, 0, 0x18, 3, 0x32, 2, 4, 6];
        let permission = Permission::from_spec(&pb::PermissionSpec::decode(&bytes[..]).unwrap());

        assert_eq!(permission.types, [ObjectType::FeatureView, ObjectType::StreamFeatureView]);
        assert_eq!(permission.actions, [Action::ReadOnline, Action::WriteOnline]);
    }
}

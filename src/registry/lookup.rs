//! Finding things in a [`Catalog`] by name, with errors in Feast's words that also say what
//! was probably meant.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::catalog::{
    Catalog, DataSource, Entity, FeatureService, FeatureView, Unreadable, ViewVersion,
};
use super::decode::decode_version;
use super::nearest::hint;
use crate::error::{Error, ErrorKind, Result};

/// Positions by name, built when first asked. A clone starts anew, for it may be changed.
#[derive(Debug, Default)]
pub struct Index(OnceLock<Positions>);

impl Clone for Index {
    fn clone(&self) -> Self {
        Index::default()
    }
}

#[derive(Debug, Default)]
struct Positions {
    views: HashMap<String, usize>,
    services: HashMap<String, usize>,
    entities: HashMap<String, usize>,
    data_sources: HashMap<String, usize>,
}

/// The first of several things with one name is found, as Feast's lookups go.
fn positions<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<String, usize> {
    let mut positions = HashMap::new();
    for (position, name) in names.enumerate() {
        positions.entry(name.to_owned()).or_insert(position);
    }
    positions
}

impl Catalog {
    /// The feature view of that name, whatever its kind.
    pub fn view(&self, name: &str) -> Result<&FeatureView> {
        let found = self.positions().views.get(name).and_then(|at| self.views.get(*at));
        found.ok_or_else(|| {
            let names = self.views.iter().map(|view| view.name.as_str());
            let hint = hint(name, names, "feature views");
            self.missing(ErrorKind::FeatureViewNotFound, "Feature view", name, &hint)
        })
    }

    /// That version of the feature view (`feast/infra/registry/registry.py`,
    /// `get_feature_view_by_version`).
    pub fn view_version(&self, name: &str, version: u32) -> Result<FeatureView> {
        let is_asked =
            |one: &&ViewVersion| one.view == name && i64::from(one.number) == i64::from(version);
        match self.versions.iter().find(is_asked) {
            Some(found) => decode_version(found),
            None => {
                let what = format!("Version v{version} of feature view");
                Err(self.missing(ErrorKind::FeatureViewVersionNotFound, &what, name, ""))
            }
        }
    }

    /// The feature service of that name.
    pub fn service(&self, name: &str) -> Result<&FeatureService> {
        let found = self.positions().services.get(name).and_then(|at| self.services.get(*at));
        found.ok_or_else(|| {
            let names = self.services.iter().map(|service| service.name.as_str());
            let hint = hint(name, names, "feature services");
            self.missing(ErrorKind::FeatureServiceNotFound, "Feature service", name, &hint)
        })
    }

    /// The entity of that name.
    pub fn entity(&self, name: &str) -> Result<&Entity> {
        let found = self.positions().entities.get(name).and_then(|at| self.entities.get(*at));
        found.ok_or_else(|| {
            let names = self.entities.iter().map(|entity| entity.name.as_str());
            let names = names.filter(|name| *name != FeatureView::DUMMY_ENTITY_NAME);
            let hint = hint(name, names, "entities");
            self.missing(ErrorKind::EntityNotFound, "Entity", name, &hint)
        })
    }

    /// The data source of that name.
    pub fn data_source(&self, name: &str) -> Result<&DataSource> {
        let positions = self.positions();
        let found = positions.data_sources.get(name).and_then(|at| self.data_sources.get(*at));
        found.ok_or_else(|| {
            let names = self.data_sources.iter().map(|source| source.name.as_str());
            let hint = hint(name, names, "data sources");
            self.missing(ErrorKind::DataSourceNotFound, "Data source", name, &hint)
        })
    }

    fn positions(&self) -> &Positions {
        self.index.0.get_or_init(|| Positions {
            views: positions(self.views.iter().map(|view| view.name.as_str())),
            services: positions(self.services.iter().map(|service| service.name.as_str())),
            entities: positions(self.entities.iter().map(|entity| entity.name.as_str())),
            data_sources: positions(self.data_sources.iter().map(|source| source.name.as_str())),
        })
    }

    /// A registry without the project is no error to Feast: it has nothing in it. The message
    /// says so, for that is mostly why nothing is found.
    fn missing(&self, kind: ErrorKind, what: &str, name: &str, hint: &str) -> Error {
        let project = &self.project;
        let is_meant = |one: &&Unreadable| one.what == what && one.name == name;
        if let Some(unreadable) = self.unreadable.iter().find(is_meant) {
            return Error::new(ErrorKind::NeedsFeast, unreadable.reason.clone());
        }
        let is_known = self.projects.iter().any(|known| known.name == *project);
        let hint = if is_known || self.projects.is_empty() {
            hint.to_owned()
        } else {
            let known: Vec<_> = self.projects.iter().map(|known| known.name.as_str()).collect();
            format!("; the registry has no such project, only: {}", known.join(", "))
        };
        let message = format!("{what} {name} does not exist in project {project}");
        Error::new(kind, message).with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::catalog::Project;

    fn catalog() -> Catalog {
        let entity = |name: &str| Entity { name: name.to_owned(), ..Entity::default() };
        Catalog {
            project: "p".to_owned(),
            projects: vec![Project { name: "p".to_owned(), ..Project::default() }],
            entities: ["driver", FeatureView::DUMMY_ENTITY_NAME, "customer"].map(entity).into(),
            ..Catalog::default()
        }
    }

    #[test]
    fn things_are_found_by_name() {
        assert_eq!(catalog().entity("customer").unwrap().name, "customer");
    }

    #[test]
    fn what_is_missing_is_named_in_feasts_words() {
        let error = catalog().entity("drivers").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EntityNotFound);
        let expected = "Entity drivers does not exist in project p; did you mean 'driver'?";
        assert_eq!(error.to_string(), expected);
        let error = catalog().entity("x").unwrap_err().to_string();
        assert!(error.ends_with("there is 'customer', 'driver'"), "{error}");
        assert_eq!(catalog().view("v").unwrap_err().kind(), ErrorKind::FeatureViewNotFound);
        assert_eq!(catalog().service("s").unwrap_err().kind(), ErrorKind::FeatureServiceNotFound);
        assert_eq!(catalog().data_source("d").unwrap_err().kind(), ErrorKind::DataSourceNotFound);
    }

    #[test]
    fn another_project_is_pointed_out() {
        let catalog = Catalog { project: "q".to_owned(), ..catalog() };
        let error = catalog.view("v").unwrap_err().to_string();
        assert!(error.contains("no such project, only: p"), "{error}");
    }
}

//! The path of a call -> what is called, and the names of the services.

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// What the server is.
    ServingInfo,
    /// Features of entities.
    GetOnlineFeatures,
    /// A row for all views of a push source.
    Push,
    /// A row for one view.
    WriteToOnlineStore,
    /// Whether a service should be called.
    HealthCheck,
    /// The same, told again whenever it changes.
    HealthWatch,
    /// The descriptions of the services.
    Reflection,
}

/// Feast's service of all languages.
pub(super) const SERVING: &str = "feast.serving.ServingService";
/// The one of its Python server.
pub(super) const PYTHON: &str = "GrpcFeatureServer";
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// The services.
pub(super) const SERVICES: &[&str] = &[SERVING, PYTHON, HEALTH, REFLECTION, REFLECTION_ALPHA];

const METHODS: &[(&str, &str, Method)] = &[
    (SERVING, "GetOnlineFeatures", Method::GetOnlineFeatures),
    (PYTHON, "GetOnlineFeatures", Method::GetOnlineFeatures),
    (PYTHON, "Push", Method::Push),
    (PYTHON, "WriteToOnlineStore", Method::WriteToOnlineStore),
    (SERVING, "GetFeastServingInfo", Method::ServingInfo),
    (HEALTH, "Check", Method::HealthCheck),
    (HEALTH, "Watch", Method::HealthWatch),
    (REFLECTION, "ServerReflectionInfo", Method::Reflection),
    (REFLECTION_ALPHA, "ServerReflectionInfo", Method::Reflection),
];

/// What `path`, `/service/method`, calls; `None`: there is no such thing.
pub(super) fn find(path: &str) -> Option<Method> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let is_called = |known: &&(&str, &str, Method)| known.0 == service && known.1 == name;
    METHODS.iter().find(is_called).map(|(_, _, method)| *method)
}

/// Whether `path` is that of a method.
pub(super) fn is_known(path: &str) -> bool {
    find(path).is_some()
}

impl Method {
    /// Whether it is work, which is limited and which not everybody may ask for.
    pub(super) fn is_work(self) -> bool {
        matches!(self, Method::GetOnlineFeatures | Method::Push | Method::WriteToOnlineStore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart() {
        assert_eq!(find("/GrpcFeatureServer/Push"), Some(Method::Push));
        assert_eq!(find("/grpc.health.v1.Health/Watch"), Some(Method::HealthWatch));
        for path in ["", "/", "/GrpcFeatureServer", "/GrpcFeatureServer/", "GrpcFeatureServer/Push"]
        {
            assert_eq!(find(path), None, "{path}");
        }
        assert_eq!(find("/feast.serving.ServingService/Push"), None);
    }

    #[test]
    fn every_service_has_methods() {
        assert!(SERVICES.iter().all(|one| METHODS.iter().any(|(service, ..)| service == one)));
    }
}

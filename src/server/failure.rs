//! Errors -> status codes and bodies, in the forms of Feast's server: its own errors name their
//! class, so that its clients raise them again; all others are a text. Where Feast answers 500
//! to a client's mistake, this is 400 or 422.

use super::host::Raised;
use super::reply::Reply;
use crate::error::{Error, ErrorKind};
use crate::value::ValueType;
use crate::value::json::to_python_text;
use crate::value::wire::Value;

/// The answer to a request that failed with `error`.
pub fn reply(error: &Error) -> Reply {
    if let Some(raised) = Raised::of(error) {
        return match &raised.class {
            Some(class) => of_class(raised.status, class, &raised.message),
            None => Reply::message(raised.status, &raised.message),
        };
    }
    let kind = error.kind();
    let status = status(kind);
    if let Some(class) = class(kind) {
        return of_class(status, class, error.message());
    }
    if kind == ErrorKind::Unauthenticated {
        return Reply::detail(status, error.message()).with_header("www-authenticate", "Bearer");
    }
    let reply = Reply::message(status, &error.to_string());
    match status {
        503 => reply.with_header("retry-after", "1"),
        _ => reply,
    }
}

/// The same where it is likely to succeed soon.
pub fn later(error: &Error) -> Reply {
    Reply::message(503, &error.to_string()).with_header("retry-after", "1")
}

/// What it says of `error`: for those of Feast's own kinds its words alone.
pub fn text(error: &Error) -> String {
    match class(error.kind()) {
        Some(_) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// The error where two features would get one name, with Feast's advice, which depends on whether
/// names are full.
pub fn collision(error: &Error, full_feature_names: bool) -> Error {
    let advice = match full_feature_names {
        false => {
            "either use the full feature name by setting 'full_feature_names=True', or ensure that \
             the features in question have different names."
        }
        true => {
            "please ensure that the feature views or their own features have different names. If \
             you're intentionally joining the same feature view twice on different sets of \
             entities, please rename one of the feature views with '.with_name'."
        }
    };
    let message = format!("{}\nTo resolve this collision, {advice}", error.message());
    Error::new(error.kind(), message)
}

/// The error where on-demand views take columns from the request that it does not have.
pub fn request_data_missing(names: &[&str]) -> Error {
    let message = format!(
        "Required request data source features ['{}'] not found in the entity rows, but required \
         by feature views",
        names.join("', '")
    );
    Error::new(ErrorKind::RequestDataMissing, message)
}

/// An error of Feast's: a JSON text in a JSON text.
pub(super) fn of_class(status: u16, class: &str, message: &str) -> Reply {
    let message = to_python_text(&Value::Text(ValueType::String, message.into()));
    let inner =
        format!("{{\"module\": \"feast.errors\", \"class\": \"{class}\", \"message\": {message}}}");
    Reply::message(status, &inner)
}

fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::FeatureViewNotFound
        | ErrorKind::FeatureViewVersionNotFound
        | ErrorKind::FeatureNotFound
        | ErrorKind::FeatureServiceNotFound
        | ErrorKind::EntityNotFound
        | ErrorKind::DataSourceNotFound
        | ErrorKind::ProjectNotFound
        | ErrorKind::ObjectNotFound
        | ErrorKind::RequestDataMissing => 404,
        ErrorKind::FeatureNameCollision => 400,
        ErrorKind::PushSourceNotFound
        | ErrorKind::InvalidArgument
        | ErrorKind::TypeMismatch
        | ErrorKind::ColumnMissing
        | ErrorKind::NullKey
        | ErrorKind::JoinKeyMissing => 422,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::PermissionDenied => 403,
        ErrorKind::NeedsFeast | ErrorKind::Unsupported => 501,
        ErrorKind::StoreUnavailable
        | ErrorKind::RegistryUnavailable
        | ErrorKind::SourceUnavailable
        | ErrorKind::PrecomputedMissing
        | ErrorKind::ProviderUnavailable
        | ErrorKind::Interrupted => 503,
        ErrorKind::StoreTimeout => 504,
        _ => 500,
    }
}

/// Feast's class, where the kind is one of Feast's errors.
fn class(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::FeatureViewNotFound => "FeatureViewNotFoundException",
        ErrorKind::FeatureViewVersionNotFound => "FeatureViewVersionNotFound",
        ErrorKind::FeatureServiceNotFound => "FeatureServiceNotFoundException",
        ErrorKind::EntityNotFound => "EntityNotFoundException",
        ErrorKind::DataSourceNotFound => "DataSourceObjectNotFoundException",
        ErrorKind::ProjectNotFound => "ProjectObjectNotFoundException",
        ErrorKind::ObjectNotFound => "FeastObjectNotFoundException",
        ErrorKind::RequestDataMissing => "RequestDataNotFoundInEntityRowsException",
        ErrorKind::PermissionDenied => "FeastPermissionError",
        ErrorKind::PushSourceNotFound => "PushSourceNotFoundException",
        ErrorKind::FeatureNameCollision => "FeatureNameCollisionError",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_names_feasts_class_and_gives_no_hints() {
        let error = Error::new(ErrorKind::FeatureViewNotFound, "Feature view ü does not exist")
            .with_hint("; did you mean 'u'?");

        let reply = reply(&error);

        assert_eq!(reply.status, 404);
        let body = r#""{\"module\": \"feast.errors\", \"class\": \"FeatureViewNotFoundException\", \"message\": \"Feature view \\u00fc does not exist\"}""#;
        assert_eq!(String::from_utf8(reply.body).unwrap(), body);
    }

    #[test]
    fn a_store_that_is_away_is_asked_again() {
        let reply = reply(&Error::new(ErrorKind::StoreUnavailable, "no"));

        assert_eq!(
            (reply.status, &reply.headers[..]),
            (503, &[("retry-after", "1".to_owned())][..])
        );
    }

    #[test]
    fn every_kind_has_a_status() {
        for kind in ErrorKind::ALL {
            assert!((400..600).contains(&status(*kind)));
            assert!(class(*kind).is_none() || status(*kind) < 500);
        }
    }
}

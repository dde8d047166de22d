//! The one error of the core. It says what kind of thing went wrong, with which thing, and
//! what to do next. It must not know how callers present it: exceptions, exit codes and
//! HTTP statuses are made from [`ErrorKind`] by the layers above.

use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `feature_store.yaml` is missing, unreadable, or says something that is not supported.
    InvalidConfig,
    /// An argument of the caller has a value that can't be used.
    InvalidArgument,
    /// A value or column has another type than the one declared.
    TypeMismatch,
    /// No feature view, stream view or on-demand view of that name.
    FeatureViewNotFound,
    /// The view exists, the version asked of it does not.
    FeatureViewVersionNotFound,
    /// The view exists, a feature asked of it does not.
    FeatureNotFound,
    /// No feature service of that name.
    FeatureServiceNotFound,
    /// No entity of that name.
    EntityNotFound,
    /// No data source of that name.
    DataSourceNotFound,
    /// No push source of that name, or none that feeds a view.
    PushSourceNotFound,
    /// No project of that name.
    ProjectNotFound,
    /// No saved dataset, permission or other registry object of that name.
    ObjectNotFound,
    /// Two features of one request would get the same name in the response.
    FeatureNameCollision,
    /// The registry file is not there.
    RegistryNotFound,
    /// The registry's bytes are not a Feast registry.
    RegistryInvalid,
    /// The object store that holds the registry can't be reached, or answered with an error.
    RegistryUnavailable,
    /// The object store that holds the registry refused the credentials or the permission.
    RegistryDenied,
    /// A source file is not there, or a pattern matches none.
    SourceNotFound,
    /// A source's bytes, columns or types are not what they should be.
    SourceInvalid,
    /// What would be written is there already.
    TargetExists,
    /// A source file changed while it was read.
    SourceChanged,
    /// The object store that holds a source can't be reached, or answered with an error.
    SourceUnavailable,
    /// The object store that holds a source refused the credentials or the permission.
    SourceDenied,
    /// Rows that are to be written lack a column.
    ColumnMissing,
    /// A row has no value for a join key.
    NullKey,
    /// The online store can't be reached, or went away.
    StoreUnavailable,
    /// The online store did not answer in time.
    StoreTimeout,
    /// The online store refused the credentials or the permission.
    StoreDenied,
    /// The online store answered with an error.
    StoreRefused,
    /// What the online store holds is not what Feast writes.
    StoreInvalid,
    /// Entity rows lack a join key that a requested view needs.
    JoinKeyMissing,
    /// An entity frame has no column that says when its rows are, or several that might.
    EntityTimestampMissing,
    /// Entity rows lack a value that an on-demand view takes from the request.
    RequestDataMissing,
    /// A feature service is served from ready-made vectors, and some are not there.
    PrecomputedMissing,
    /// The server was shown no token that it accepts: it does not know who asks.
    Unauthenticated,
    /// The server knows who asks, and no permission of the registry lets them.
    PermissionDenied,
    /// The identity provider can't be reached, so that no token can be checked.
    ProviderUnavailable,
    /// Only Feast itself can do this; where it is installed the Python door hands it over.
    NeedsFeast,
    /// Not supported at all; the message says what is.
    Unsupported,
    /// The caller asked to stop.
    Interrupted,
    /// The operating system refused a file operation.
    Io,
    /// A promise inside feastrs was broken: a bug, to be reported.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tables and the tests that walk them.
    pub const ALL: &'static [ErrorKind] = &[
        ErrorKind::InvalidConfig,
        ErrorKind::InvalidArgument,
        ErrorKind::TypeMismatch,
        ErrorKind::FeatureViewNotFound,
        ErrorKind::FeatureViewVersionNotFound,
        ErrorKind::FeatureNotFound,
        ErrorKind::FeatureServiceNotFound,
        ErrorKind::EntityNotFound,
        ErrorKind::DataSourceNotFound,
        ErrorKind::PushSourceNotFound,
        ErrorKind::ProjectNotFound,
        ErrorKind::ObjectNotFound,
        ErrorKind::FeatureNameCollision,
        ErrorKind::RegistryNotFound,
        ErrorKind::RegistryInvalid,
        ErrorKind::RegistryUnavailable,
        ErrorKind::RegistryDenied,
        ErrorKind::SourceNotFound,
        ErrorKind::SourceInvalid,
        ErrorKind::TargetExists,
        ErrorKind::SourceChanged,
        ErrorKind::SourceUnavailable,
        ErrorKind::SourceDenied,
        ErrorKind::ColumnMissing,
        ErrorKind::NullKey,
        ErrorKind::StoreUnavailable,
        ErrorKind::StoreTimeout,
        ErrorKind::StoreDenied,
        ErrorKind::StoreRefused,
        ErrorKind::StoreInvalid,
        ErrorKind::JoinKeyMissing,
        ErrorKind::EntityTimestampMissing,
        ErrorKind::RequestDataMissing,
        ErrorKind::PrecomputedMissing,
        ErrorKind::Unauthenticated,
        ErrorKind::PermissionDenied,
        ErrorKind::ProviderUnavailable,
        ErrorKind::NeedsFeast,
        ErrorKind::Unsupported,
        ErrorKind::Interrupted,
        ErrorKind::Io,
        ErrorKind::Internal,
    ];
}

/// An error: its kind, a message that names the thing, and what caused it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. `message` names the thing, its value and the way out; it never
    /// holds a secret.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (message, hint) = (message.into(), String::new());
        Error(Box::new(Inner { kind, message, hint, source: None }))
    }

    /// The same error with what caused it, whose text is appended to the message.
    #[cold]
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error with what may help said behind its message, and not part of it.
    #[cold]
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = hint.into();
        self
    }

    /// The same error with `context` put before its message: "view 'x': message".
    #[cold]
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without hints and causes: for what Feast's lookups don't find, in
    /// Feast's own words.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed when it is made again, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::StoreUnavailable | ErrorKind::StoreTimeout)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        f.write_str(&self.0.hint)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_carries_context_and_cause() {
        let error = Error::new(ErrorKind::Io, "can't read 'x'")
            .with_source(std::io::Error::other("disk on fire"))
            .context("view 'v'");

        assert_eq!(error.to_string(), "view 'v': can't read 'x': disk on fire");
        assert_eq!(error.message(), "view 'v': can't read 'x'");
        assert!(!error.is_retryable());
    }
}

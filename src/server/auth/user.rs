//! Who asks.

/// A user, as the identity provider vouches for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Their name, or that of the program that asks.
    pub name: String,
    /// Their roles.
    pub roles: Vec<String>,
    /// Their groups.
    pub groups: Vec<String>,
}

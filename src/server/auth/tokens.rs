//! Tokens that were found good, so that a client's next request costs no signature check. They
//! are forgotten when they expire, and when the provider's keys change.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::keys::Keys;
use super::user::User;

/// Past this many, all are forgotten: each is checked once more.
const MAX_TOKENS: usize = 4096;

/// Good tokens and their users.
#[derive(Default)]
pub struct Tokens(RwLock<HashMap<Box<str>, Good>>);

struct Good {
    user: Arc<User>,
    expires: f64,
    // The very keys that it was checked with.
    keys: Arc<Keys>,
}

impl Tokens {
    /// The user of `token`, if it was found good with these `keys`, and still is at `now`.
    pub fn get(&self, token: &str, keys: &Arc<Keys>, now: f64) -> Option<Arc<User>> {
        // A panic can't leave the map half changed.
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let good = tokens.get(token)?;
        (now < good.expires && Arc::ptr_eq(&good.keys, keys)).then(|| good.user.clone())
    }

    /// Remembers that `token` is `user`'s until `expires`.
    pub fn put(&self, token: &str, user: &Arc<User>, expires: f64, keys: &Arc<Keys>) {
        let mut tokens = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        let good = Good { user: user.clone(), expires, keys: keys.clone() };
        tokens.insert(token.into(), good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_or_keys_change() {
        let (tokens, keys) = (Tokens::default(), Arc::new(Keys::default()));
        let user = Arc::new(User { name: "ann".to_owned(), ..User::default() });

        tokens.put("t", &user, 10.0, &keys);

        assert_eq!(tokens.get("t", &keys, 9.9).unwrap().name, "ann");
        assert!(tokens.get("t", &keys, 10.0).is_none());
        assert!(tokens.get("t", &Arc::new(Keys::default()), 9.9).is_none());
        assert!(tokens.get("u", &keys, 9.9).is_none());
        for number in 0..MAX_TOKENS {
            tokens.put(&number.to_string(), &user, 10.0, &keys);
        }
        assert!(tokens.get("t", &keys, 9.9).is_none());
    }
}

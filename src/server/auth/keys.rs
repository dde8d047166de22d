//! The keys of an identity provider (RFC 7517), and signatures of theirs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::Value;

use super::token::{Reason, Token};

/// The keys that a provider signs with now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

#[derive(Debug, PartialEq, Eq)]
struct Key {
    id: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl Keys {
    /// The usable keys of a JWKS document: those for RS256 signatures that have an id. `None`:
    /// it is no such document.
    pub fn parse(document: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(document).ok()?;
        let keys = document.get("keys")?.as_array()?;
        Some(Keys(keys.iter().filter_map(Key::parse).collect()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a key of that id.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Whether `token` was signed with the key that it names.
    pub fn check(&self, token: &Token<'_>) -> Result<(), Reason> {
        let key = self.0.iter().find(|key| key.id == token.key_id);
        let key = key.ok_or("its key is not one of the provider's")?;
        let components = RsaPublicKeyComponents { n: &key.modulus, e: &key.exponent };
        components
            .verify(&RSA_PKCS1_2048_8192_SHA256, token.signed, &token.signature)
            .map_err(|_| "its signature is wrong")
    }
}

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let is_usable = text("kty") == Some("RSA")
            && key.get("use").is_none_or(|usage| usage == "sig")
            && key.get("alg").is_none_or(|algorithm| algorithm == "RS256");
        let number = |name: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok()?;
            // ring takes no leading zeros, which some providers write.
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec())
        };
        if !is_usable {
            return None;
        }
        Some(Key { id: text("kid")?.to_owned(), modulus: number("n")?, exponent: number("e")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_for_rs256_signatures_are_used() {
        let document = br#"{"keys": [
            {"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB","use":"sig","alg":"RS256"},
            {"kty":"RSA","kid":"b","n":"AAEAAQ","e":"AQAB"},
            {"kty":"RSA","kid":"encryption","n":"AQAB","e":"AQAB","use":"enc"},
            {"kty":"RSA","kid":"other","n":"AQAB","e":"AQAB","alg":"RS512"},
            {"kty":"oct","kid":"secret","k":"AQAB","n":"AQAB","e":"AQAB"},
            {"kty":"RSA","n":"AQAB","e":"AQAB"}, 7, {"kty":"RSA","kid":"c","n":"!","e":"AQAB"}
        ], "more": 1}"#;

        let keys = Keys::parse(document).unwrap();

        assert_eq!(keys.0.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(keys.0[1].modulus, [1, 0, 1]);
        assert!(keys.has("a") && !keys.has("secret"));
        assert_eq!(Keys::parse(b"{}"), None);
        assert_eq!(Keys::parse(b"<html>"), None);
    }
}

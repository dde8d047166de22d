//! A JSON Web Token taken apart (RFC 7515, RFC 7519): header, claims, signature. Nothing in it
//! is to be believed before [`Keys`](super::keys::Keys) has checked the signature.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Longer tokens are not looked at: headers are shorter.
const MAX_BYTES: usize = 64 * 1024;

/// A token, as it came.
pub struct Token<'a> {
    /// The key that is said to have signed it.
    pub key_id: String,
    /// What it says, unless it was forged.
    pub claims: Map<String, Value>,
    /// What was signed.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why a token is not accepted; never with anything of the token.
pub type Reason = &'static str;

impl<'a> Token<'a> {
    /// Takes `text` apart. Only tokens that claim to be signed with RS256 are: neither unsigned
    /// ones nor such as use the public key as a shared secret.
    pub fn parse(text: &'a str) -> Result<Self, Reason> {
        const MALFORMED: Reason = "it is no JSON Web Token";
        if text.len() > MAX_BYTES {
            return Err("it is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
        let header = object(header).ok_or(MALFORMED)?;
        let claims = object(claims).ok_or(MALFORMED)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        if header.get("alg").and_then(Value::as_str) != Some("RS256") {
            return Err("it is not signed with RS256");
        }
        if header.contains_key("crit") {
            return Err("its header demands what is not known here");
        }
        let key_id = header.get("kid").and_then(Value::as_str);
        let key_id = key_id.ok_or("it names no key")?.to_owned();
        Ok(Token { key_id, claims, signed: signed.as_bytes(), signature })
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let parts = [header, claims, "signature"].map(|part| URL_SAFE_NO_PAD.encode(part));
        parts.join(".")
    }

    #[test]
    fn the_parts_are_found() {
        let text = token(r#"{"alg":"RS256","kid":"k"}"#, r#"{"sub":"s"}"#);

        let token = Token::parse(&text).unwrap();

        assert_eq!(token.key_id, "k");
        assert_eq!(token.claims["sub"], "s");
        assert_eq!(token.signature, b"signature");
        assert_eq!(token.signed, text.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[test]
    fn what_is_not_signed_as_it_should_be_is_refused() {
        let refused = |header: &str| Token::parse(&token(header, "{}")).err();
        for header in [
            r#"{"alg":"none","kid":"k"}"#,
            r#"{"alg":"HS256","kid":"k"}"#,
            r#"{"alg":"RS512","kid":"k"}"#,
            r#"{"alg":"rs256","kid":"k"}"#,
            r#"{"alg":["RS256"],"kid":"k"}"#,
            r#"{"kid":"k"}"#,
        ] {
            assert_eq!(refused(header), Some("it is not signed with RS256"), "{header}");
        }
        assert_eq!(refused(r#"{"alg":"RS256"}"#), Some("it names no key"));
        assert_eq!(refused(r#"{"alg":"RS256","kid":7}"#), Some("it names no key"));
        assert!(refused(r#"{"alg":"RS256","kid":"k","crit":["b64"],"b64":false}"#).is_some());
        assert!(refused("[]").is_some());
        for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "é.é.é"] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
        assert!(Token::parse(&"a".repeat(MAX_BYTES + 1)).is_err());
    }
}

//! JSON Web Tokens, held against what the table says of them.

use jsonwebtoken::{
    Validation, decode,
    errors::{Error, ErrorKind},
};
use serde_json::{Map, Value};

use super::Caller;
use crate::config::{Jwt, Scopes};

/// Characters of a subject: it becomes part of the log.
const LONGEST_SUBJECT: usize = 256;

/// Whoever a token is of; the error does not show it.
pub fn caller(token: &[u8], rules: &Jwt) -> Result<Caller, &'static str> {
    let token = decode::<Map<String, Value>>(token, rules.key.decoding(), &validation(rules)).map_err(said)?;
    // What must be understood, and nothing here does: <https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11>
    if token.header.crit.is_some() {
        return Err("it asks for more than is understood (`crit`)");
    }
    let claims = token.claims;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.chars().count() > LONGEST_SUBJECT || subject.chars().any(char::is_control) {
        return Err("`sub` is empty, too long, or no text for a log");
    }
    let scopes = match claims.get(&rules.scopes_claim) {
        Some(Value::String(words)) => Scopes::of(words.split_ascii_whitespace()),
        Some(Value::Array(words)) => Scopes::of(words.iter().filter_map(Value::as_str)),
        _ => Scopes::default(),
    };
    Ok(Caller { name: subject.to_owned(), by: "subject", scopes })
}

fn validation(rules: &Jwt) -> Validation {
    let mut validation = Validation::new(rules.key.algorithm());
    validation.leeway = rules.leeway.as_secs();
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[&rules.issuer]);
    validation.set_audience(&[&rules.audience]);
    validation
}

/// For whoever asks in vain; what the library says may hold parts of the token.
fn said(error: Error) -> &'static str {
    match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired (`exp`)",
        ErrorKind::ImmatureSignature => "it is not valid yet (`nbf`)",
        ErrorKind::InvalidIssuer => "another issuer made it (`iss`)",
        ErrorKind::InvalidAudience => "it is for somebody else (`aud`)",
        ErrorKind::MissingRequiredClaim(_) => "it lacks one of `exp`, `iss`, `aud` and `sub`",
        ErrorKind::InvalidClaimFormat(_) => "`exp` or `nbf` is no time",
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            "it has another algorithm than `admin.auth.jwt`"
        }
        ErrorKind::InvalidSignature => "its signature is wrong",
        _ => "it is no JSON Web Token that is understood",
    }
}

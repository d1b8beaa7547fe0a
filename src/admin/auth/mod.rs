//! Who asks, by the credential that comes with a request, and what they may do.

mod attempts;
mod jwt;
#[cfg(test)]
pub mod tests;

use axum::http::{
    HeaderMap,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use subtle::ConstantTimeEq;

#[cfg(test)]
pub use self::attempts::MOST_REFUSED;
pub use self::attempts::{Attempts, WINDOW, wait};
use super::problem::Problem;
use crate::config::{Required, Scope, Scopes, digest_of};

/// Bytes of a credential; a JSON Web Token has some hundred.
const MOST_CREDENTIAL: usize = 8 << 10;

/// Whoever asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Of the token in the table, or the subject of a JSON Web Token.
    pub name: String,
    /// What the name is one of.
    pub by: &'static str,
    pub scopes: Scopes,
}

/// Why nobody is known to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// There is no credential.
    Missing,
    /// There is one, and this is wrong with it, in words that do not show it.
    Bad(&'static str),
}

impl Caller {
    /// Where no credential is asked for.
    pub fn anyone() -> Self {
        Caller { name: "anyone".into(), by: "none", scopes: Scopes::default() }
    }

    /// Whoever sent these headers.
    pub fn of(headers: &HeaderMap, required: &Required) -> Result<Self, Unknown> {
        let credential = bearer(headers)?;
        if let Some(caller) = by_token(credential, required) {
            return Ok(caller);
        }
        match &required.jwt {
            // Three parts: <https://www.rfc-editor.org/rfc/rfc7515#section-7.1>
            Some(rules) if credential.iter().filter(|byte| **byte == b'.').count() == 2 => {
                jwt::caller(credential, rules).map_err(Unknown::Bad)
            }
            _ => Err(Unknown::Bad("nobody has this token")),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&[u8], Unknown> {
    let mut written = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (written.next().ok_or(Unknown::Missing)?, written.next());
    if second.is_some() {
        return Err(Unknown::Bad("there are several credentials"));
    }
    let (scheme, credential) = first.as_bytes().split_at(first.len().min("Bearer ".len()));
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(Unknown::Bad("the credential is no bearer token"));
    }
    let credential = credential.trim_ascii();
    if credential.is_empty() || credential.len() > MOST_CREDENTIAL {
        return Err(Unknown::Bad("the credential is empty or too long"));
    }
    Ok(credential)
}

/// Looks at every token, and for as long whatever was sent: how long it takes tells nothing about them.
fn by_token(credential: &[u8], required: &Required) -> Option<Caller> {
    let digest = digest_of(credential);
    let found = required
        .tokens
        .iter()
        .fold(None, |found, token| if bool::from(token.digest.ct_eq(&digest)) { Some(token) } else { found });
    found.map(|token| Caller { name: token.name.clone(), by: "token", scopes: token.scopes })
}

impl Problem {
    /// Nobody is known to ask, as RFC 6750 says it.
    pub fn unknown(why: &Unknown) -> Self {
        let (detail, challenge) = match why {
            Unknown::Missing => ("a credential is needed: `Authorization: Bearer TOKEN`".to_owned(), ""),
            Unknown::Bad(why) => (format!("the credential is not accepted: {why}"), ", error=\"invalid_token\""),
        };
        let problem = Problem::new(axum::http::StatusCode::UNAUTHORIZED, detail);
        problem.with(WWW_AUTHENTICATE, format!("Bearer realm=\"trestle\"{challenge}"))
    }

    /// Whoever asks may not.
    pub fn lacks(scope: Scope, caller: &Caller) -> Self {
        let name = scope.name();
        let detail = format!("{} `{}` lacks the scope `{name}`", caller.by, caller.name);
        let challenge = format!("Bearer realm=\"trestle\", error=\"insufficient_scope\", scope=\"{name}\"");
        Problem::new(axum::http::StatusCode::FORBIDDEN, detail).with(WWW_AUTHENTICATE, challenge)
    }
}

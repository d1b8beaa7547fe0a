//! Who may ask on the admin address, as a table means it. Secrets are kept as what they are compared with.

mod key;
mod signature;
#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use ring::digest::{SHA256, digest};

pub use self::key::Key;
pub use super::shape::{Algorithm, Scope};
use super::{
    inputs::Inputs,
    meaning::Checker,
    quantity::Time,
    shape::{self, Metrics},
};

/// Fewer characters could be guessed.
const LEAST_TOKEN: usize = 16;
/// Bytes of a key file.
const MAX_KEY: u64 = 64 << 10;
/// More would keep tokens alive that have ended.
const LEEWAY: std::ops::RangeInclusive<Time> = Time::millis(0)..=Time::millis(300_000);

/// Who may ask.
#[derive(Clone, PartialEq, Debug)]
pub enum Auth {
    /// Everyone reads, and this machine changes.
    None {
        /// The table says so.
        explicit: bool,
    },
    Required(Arc<Required>),
}

/// One of these credentials is needed.
#[derive(Clone, PartialEq, Debug)]
pub struct Required {
    pub tokens: Vec<Token>,
    pub jwt: Option<Jwt>,
    /// Whether `/metrics` needs none.
    pub open_metrics: bool,
}

/// A token, without itself.
#[derive(Clone, PartialEq)]
pub struct Token {
    pub name: String,
    /// SHA-256 of it.
    pub digest: [u8; 32],
    pub scopes: Scopes,
}

/// What JSON Web Tokens must be.
#[derive(Clone, PartialEq, Debug)]
pub struct Jwt {
    pub key: Key,
    pub issuer: String,
    pub audience: String,
    pub scopes_claim: String,
    pub leeway: Duration,
}

/// What somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scopes {
    view: bool,
    operate: bool,
}

impl Auth {
    /// Whether an instance that listens there would let everyone read whom nobody has allowed to.
    pub fn is_missing_on(&self, listen: SocketAddr) -> bool {
        *self == Auth::None { explicit: false } && !is_loopback(listen)
    }
}

/// Whether only this machine reaches the address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// What a token is compared by.
pub fn digest_of(token: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

impl Scope {
    /// As tables and tokens have it.
    pub fn name(self) -> &'static str {
        match self {
            Scope::View => "view",
            Scope::Operate => "operate",
        }
    }
}

impl Scopes {
    pub fn allow(self, scope: Scope) -> bool {
        match scope {
            Scope::View => self.view,
            Scope::Operate => self.operate,
        }
    }

    /// Those of these words that are scopes; others mean something to other programs.
    pub fn of<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        words.fold(Scopes::default(), |scopes, word| Scopes {
            view: scopes.view || word == Scope::View.name(),
            operate: scopes.operate || word == Scope::Operate.name(),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

const AUTH: [&str; 2] = ["admin", "auth"];

impl Checker<'_> {
    /// What `admin.auth` means, on an address that is right.
    pub(super) fn auth(&mut self, admin: &shape::Admin, listen: SocketAddr, inputs: &mut Inputs) -> Auth {
        let auth = match &admin.auth {
            None => Auth::None { explicit: false },
            Some(shape::Auth::None(_)) => Auth::None { explicit: true },
            Some(shape::Auth::Required(required)) => self.required(required, inputs),
        };
        if auth.is_missing_on(listen) {
            let problem = format!("everyone who reaches {listen} could read what this instance tells");
            let expected = "`auth` with `tokens` or `jwt`, or an address of this machine alone such as 127.0.0.1:9464, or \
                            `auth: none` where everyone may read";
            self.mistakes.push(self.at(&["admin", "listen"], problem).expected(expected));
        }
        auth
    }

    fn required(&mut self, written: &shape::Required, inputs: &mut Inputs) -> Auth {
        if written.tokens.is_empty() && written.jwt.is_none() && !self.is_reported(&AUTH) {
            let mistake = self.at(&AUTH, "nobody could ask: there are neither `tokens` nor `jwt`");
            self.mistakes.push(mistake.expected("one of them, or `auth: none`"));
        }
        let mut tokens: Vec<Token> = Vec::new();
        for (name, token) in &written.tokens {
            let path = [AUTH[0], AUTH[1], "tokens", name];
            let at = self.root.locate(&path);
            self.name(&path, name, at);
            let scopes = [&path[..], &["scopes"]].concat();
            if token.scopes.is_empty() && !self.is_reported(&path) {
                let mistake = self.at(&scopes, "`scopes` is empty: this token could do nothing");
                self.mistakes.push(mistake.expected("view, operate, or both"));
            }
            let Some(secret) = self.token(&[&path[..], &["token"]].concat(), &token.token) else { continue };
            let digest = digest_of(secret.as_bytes());
            if let Some(same) = tokens.iter().find(|other| other.digest == digest) {
                let problem = format!("`{}` has the same token: nobody could tell who asks", same.name);
                self.say(&path, problem);
            }
            let scopes = Scopes::of(token.scopes.iter().map(|scope| scope.name()));
            tokens.push(Token { name: name.clone(), digest, scopes });
        }
        let jwt = written.jwt.as_ref().and_then(|jwt| self.jwt(jwt, inputs));
        Auth::Required(Arc::new(Required { tokens, jwt, open_metrics: written.metrics == Metrics::Open }))
    }

    /// The token, if it is one that a header can hold and that nobody guesses.
    fn token<'t>(&mut self, path: &[&str], token: &'t str) -> Option<&'t str> {
        if self.is_reported(path) {
            return None;
        }
        let problem = if token.chars().count() < LEAST_TOKEN {
            format!("this token is shorter than {LEAST_TOKEN} characters")
        } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            "this token has characters that an HTTP header cannot hold".to_owned()
        } else {
            return Some(token);
        };
        let mistake = self.at(path, problem);
        self.mistakes
            .push(mistake.expected("letters, digits and signs without spaces, as `openssl rand -hex 32` makes them"));
        None
    }

    fn jwt(&mut self, written: &shape::Jwt, inputs: &mut Inputs) -> Option<Jwt> {
        let path = [AUTH[0], AUTH[1], "jwt"];
        if self.is_reported(&path) {
            return None;
        }
        self.within(&[&path[..], &["leeway"]].concat(), written.leeway, LEEWAY);
        let file = Path::new(&written.key_file);
        let read = inputs.read(file, MAX_KEY).map_err(|error| format!("cannot read {}: {error}", file.display()));
        let key = read.and_then(|bytes| Key::new(written.algorithm, &bytes));
        let shape::Jwt { issuer, audience, scopes_claim, .. } = written.clone();
        match key {
            Ok(key) => Some(Jwt { key, issuer, audience, scopes_claim, leeway: written.leeway.0 }),
            Err(problem) => {
                let mistake = self.at(&[&path[..], &["key_file"]].concat(), problem);
                self.mistakes.push(mistake.expected(Key::expected(written.algorithm)));
                None
            }
        }
    }
}

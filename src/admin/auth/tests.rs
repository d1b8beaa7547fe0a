//! Credentials as they come; tokens that another library has signed.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, PKeyRef, Private},
    rsa::Rsa,
    sign::Signer,
};
use serde_json::{Value, json};

use super::*;
use crate::config::{Algorithm, Jwt, Key, Token};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn scopes(words: &str) -> Scopes {
    Scopes::of(words.split(' '))
}

fn token(name: &str, secret: &str, words: &str) -> Token {
    Token { name: name.to_owned(), digest: digest_of(secret.as_bytes()), scopes: scopes(words) }
}

fn required(key: Option<Key>) -> Required {
    let (issuer, audience) = ("https://issuer.example".to_owned(), "trestle".to_owned());
    let leeway = std::time::Duration::from_secs(30);
    let jwt = key.map(|key| Jwt { key, issuer, audience, scopes_claim: "scope".into(), leeway });
    let tokens = vec![
        token("ops", "token-of-the-operators", "view operate"),
        token("prometheus", "token-of-prometheus", "view"),
    ];
    Required { tokens, jwt, open_metrics: false }
}

fn asks(authorization: &str, required: &Required) -> Result<Caller, Unknown> {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())]);
    Caller::of(&headers, required)
}

/// A token of this header and these claims, signed by OpenSSL.
pub fn signed(header: &Value, claims: &Value, key: &PKeyRef<Private>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
    let signature = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({ "sub": "alice", "iss": "https://issuer.example", "aud": "trestle", "exp": now() + 60, "scope": "view openid" })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    match value.into() {
        Value::Null => claims.as_object_mut().unwrap().remove(name),
        value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
    };
    claims
}

#[test]
fn a_token_is_known_by_all_of_it() {
    let required = required(None);
    let ops = asks("Bearer token-of-the-operators", &required).unwrap();
    assert_eq!((ops.name.as_str(), ops.by, ops.scopes), ("ops", "token", scopes("view operate")));
    assert_eq!(asks("bearer token-of-prometheus", &required).unwrap().scopes, scopes("view"));
    for bad in [
        "Bearer token-of-the-operator",
        "Bearer token-of-the-operators2",
        "Bearer Token-of-the-operators",
        "Bearer",
        "Bearer  ",
        "Basic token-of-the-operators",
        "token-of-the-operators",
        "Bearer ops",
        "Bearer a.b.c",
    ] {
        assert!(matches!(asks(bad, &required), Err(Unknown::Bad(_))), "{bad}");
    }
    assert_eq!(
        asks(&format!("Bearer {}", "x".repeat(MOST_CREDENTIAL + 1)), &required),
        Err(Unknown::Bad("the credential is empty or too long"))
    );
    assert_eq!(Caller::of(&HeaderMap::new(), &required), Err(Unknown::Missing));
    let mut two = HeaderMap::new();
    for credential in ["Bearer token-of-the-operators", "Bearer x"] {
        two.append(AUTHORIZATION, HeaderValue::from_static(credential));
    }
    assert_eq!(Caller::of(&two, &required), Err(Unknown::Bad("there are several credentials")));
}

#[test]
fn a_signed_token_says_who_asks_and_what_they_may_do() {
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let rs256 = required(Some(Key::new(Algorithm::Rs256, &rsa.public_key_to_pem().unwrap()).unwrap()));
    let hs256 = required(Some(Key::new(Algorithm::Hs256, SECRET).unwrap()));
    let secret = PKey::hmac(SECRET).unwrap();
    for (algorithm, key, required) in [("RS256", &rsa, &rs256), ("HS256", &secret, &hs256)] {
        let ask = |claims: &Value| {
            asks(&format!("Bearer {}", signed(&json!({ "alg": algorithm, "typ": "JWT" }), claims, key)), required)
        };
        let alice = ask(&claims()).unwrap();
        assert_eq!((alice.name.as_str(), alice.by, alice.scopes), ("alice", "subject", scopes("view")));
        assert_eq!(ask(&with("scope", json!(["operate", 7, "x"]))).unwrap().scopes, scopes("operate"));
        assert_eq!(ask(&with("scope", Value::Null)).unwrap().scopes, Scopes::default());
        assert_eq!(ask(&with("scope", 7)).unwrap().scopes, Scopes::default());
        assert!(ask(&with("aud", json!(["x", "trestle"]))).is_ok());
        assert!(ask(&with("nbf", now() - 5)).is_ok());
        assert!(ask(&with("exp", now() - 20)).is_ok() && ask(&with("nbf", now() + 20)).is_ok(), "clocks differ");
        for (claims, says) in [
            (with("exp", now() - 40), "expired"),
            (with("exp", Value::Null), "it lacks one of"),
            (with("exp", "tomorrow"), "it lacks one of"),
            (with("nbf", now() + 40), "not valid yet"),
            (with("nbf", "tomorrow"), "no time"),
            (with("iss", "https://evil.example"), "another issuer"),
            (with("iss", Value::Null), "it lacks one of"),
            (with("aud", "others"), "somebody else"),
            (with("aud", json!(["others"])), "somebody else"),
            (with("aud", Value::Null), "it lacks one of"),
            (with("sub", Value::Null), "it lacks one of"),
            (with("sub", ""), "`sub` is empty"),
            (with("sub", "a\nb"), "`sub` is empty"),
            (with("sub", "x".repeat(LONG)), "`sub` is empty"),
        ] {
            let Err(Unknown::Bad(why)) = ask(&claims) else { panic!("{algorithm}: {claims} is accepted") };
            assert!(why.contains(says), "{claims}: {why}");
        }
    }
}

const LONG: usize = 257;

#[test]
fn what_a_token_says_of_its_algorithm_changes_nothing() {
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let public = rsa.public_key_to_pem().unwrap();
    let rs256 = required(Some(Key::new(Algorithm::Rs256, &public).unwrap()));
    let hs256 = required(Some(Key::new(Algorithm::Hs256, SECRET).unwrap()));
    let secret = PKey::hmac(SECRET).unwrap();
    let refused = |token: &str, required: &Required| {
        assert!(matches!(asks(&format!("Bearer {token}"), required), Err(Unknown::Bad(_))), "{token}");
    };
    // Signed with the public key, which everyone has, as if it were a secret.
    for public in [public.clone(), rsa.rsa().unwrap().public_key_to_der_pkcs1().unwrap()] {
        refused(&signed(&json!({ "alg": "HS256" }), &claims(), &PKey::hmac(&public).unwrap()), &rs256);
    }
    refused(&signed(&json!({ "alg": "RS256" }), &claims(), &rsa), &hs256);
    for algorithm in ["none", "None", "HS384", "RS512", "PS256", "ES256", "EdDSA", ""] {
        for (key, required) in [(&secret, &hs256), (&rsa, &rs256)] {
            let token = signed(&json!({ "alg": algorithm }), &claims(), key);
            refused(&token, required);
            refused(&format!("{}.", token.rsplit_once('.').unwrap().0), required);
        }
    }
    let good = signed(&json!({ "alg": "HS256" }), &claims(), &secret);
    assert!(asks(&format!("Bearer {good}"), &hs256).is_ok());
    refused(&signed(&json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), &claims(), &secret), &hs256);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let forged =
        format!("{}.{}", message.split_once('.').unwrap().0, URL_SAFE_NO_PAD.encode(with("sub", "root").to_string()));
    refused(&format!("{forged}.{signature}"), &hs256);
    refused(&format!("{message}."), &hs256);
    refused(
        &signed(&json!({ "alg": "HS256" }), &claims(), &PKey::hmac(b"another-secret-of-32-characters!").unwrap()),
        &hs256,
    );
    let other = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    refused(&signed(&json!({ "alg": "RS256" }), &claims(), &other), &rs256);
}

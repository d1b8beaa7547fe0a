//! `admin.auth` as it is written, and what is told of it.

use std::{fs, path::Path};

use openssl::{pkey::PKey, rsa::Rsa};

use super::*;
use crate::config::{Checked, check};

const TOKEN: &str = "0123456789abcdef-ops";

fn checked(admin: &str) -> Checked {
    let text = format!("clusters: {{}}\nroutes: {{}}\nadmin:\n{admin}\n");
    let environment = |name: &str| match name {
        "OPS" => Some(TOKEN.to_owned()),
        _ => None,
    };
    check(Path::new("table.yaml"), &text, &environment)
}

fn said(admin: &str) -> Vec<String> {
    let checked = checked(admin);
    assert_eq!(checked.table.is_none(), !checked.mistakes.is_empty());
    let line = |m: &crate::config::Mistake| {
        assert!(!format!("{m:?}").contains(TOKEN), "{m:?}");
        let (expected, nearest) = (m.expected.as_deref().unwrap_or("-"), m.nearest.as_deref().unwrap_or("-"));
        format!("{}:{} {} | {expected} | {nearest}", m.line, m.column, m.problem)
    };
    checked.mistakes.iter().map(line).collect()
}

fn auth(admin: &str) -> Auth {
    let checked = checked(admin);
    assert!(checked.mistakes.is_empty(), "{:?}", checked.mistakes);
    checked.table.unwrap().auth
}

fn required(admin: &str) -> Arc<Required> {
    match auth(admin) {
        Auth::Required(required) => required,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_that_others_reach_needs_to_say_who_may_ask() {
    for listen in ["0.0.0.0:9464", "[::]:9464", "10.0.0.7:9464"] {
        let said = said(&format!("  listen: \"{listen}\""));
        assert!(
            matches!(said.as_slice(), [one] if one.starts_with("4:11 ") && one.contains("`auth: none`")),
            "{said:?}"
        );
        assert_eq!(auth(&format!("  listen: \"{listen}\"\n  auth: none")), Auth::None { explicit: true });
    }
    for listen in ["127.0.0.1:1", "127.3.2.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(auth(&format!("  listen: \"{listen}\"")), Auth::None { explicit: false });
    }
}

#[test]
fn tokens_are_kept_as_what_they_are_compared_with() {
    let text = "  listen: 0.0.0.0:1\n  auth: { tokens: { ops: { token: \"${OPS}\", scopes: [view, operate] }, \
                prometheus: { token: another-token-of-20, scopes: [view] } } }";
    let required = required(text);
    assert!(!required.open_metrics && required.jwt.is_none());
    let [ops, prometheus] = required.tokens.as_slice() else { panic!("{required:?}") };
    assert_eq!((ops.name.as_str(), ops.digest), ("ops", digest_of(TOKEN.as_bytes())));
    assert!(ops.scopes.allow(Scope::View) && ops.scopes.allow(Scope::Operate));
    assert!(prometheus.scopes.allow(Scope::View) && !prometheus.scopes.allow(Scope::Operate));
    assert!(!format!("{required:?}").contains("another"), "{required:?}");
}

#[test]
fn what_is_wrong_with_tokens_is_told_without_them() {
    for (written, says) in [
        ("{}", "4:3 nobody could ask"),
        ("nobody", "`nobody` is not known here"),
        ("{ tokens: { ops: { token: tiny-one, scopes: [view] } } }", "shorter than 16 characters"),
        ("{ tokens: { ops: { token: \"has a space in it, it has\", scopes: [view] } } }", "HTTP header"),
        ("{ tokens: { ops: { token: \"${NOWHERE}\", scopes: [view] } } }", "NOWHERE is not set"),
        (
            "{ tokens: { ops: { token: \"${OPS}\", scopes: [veiw] } } }",
            "`veiw` is not known here | one of view, operate | view",
        ),
        ("{ tokens: { ops: { token: \"${OPS}\", scopes: [] } } }", "`scopes` is empty"),
        ("{ tokens: { ops: { token: \"${OPS}\" } } }", "`scopes` is missing"),
        ("{ tokens: { ops: \"${OPS}\" } }", "this value does not do here | a mapping with token, scopes"),
        ("{ tokens: { \"o p\": { token: \"${OPS}\", scopes: [view] } } }", "`o p` is not a name"),
        (
            "{ tokens: { a: { token: \"${OPS}\", scopes: [view] }, b: { token: \"${OPS}\", scopes: [view] } } }",
            "`a` has the same token",
        ),
        ("{ tokens: { ops: { token: \"${OPS}\", scopes: [view] } }, metrics: shut }", "`shut` is not known here"),
        ("{ token: \"${OPS}\" }", "unknown key `token`"),
    ] {
        let said = said(&format!("  auth: {written}"));
        assert!(matches!(said.as_slice(), [one] if one.contains(says)), "{written}: {said:?}");
    }
}

fn jwt(algorithm: &str, file: &Path, more: &str) -> String {
    let file = file.display();
    format!(
        "  auth: {{ jwt: {{ algorithm: {algorithm}, key_file: {file}, issuer: i, audience: a{more} }}, metrics: open }}"
    )
}

#[test]
fn a_key_must_be_one_for_its_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let public = file("public", &rsa.public_key_to_pem().unwrap());
    let secret = file("secret", b"0123456789abcdef0123456789abcdef\n");
    let required = required(&jwt("RS256", &public, ""));
    let rules = required.jwt.as_ref().unwrap();
    assert!(required.open_metrics);
    assert_eq!((rules.scopes_claim.as_str(), rules.leeway.as_secs()), ("scope", 30));
    assert!(checked(&jwt("HS256", &secret, ", leeway: 5m, scopes_claim: scp")).table.is_some());
    let private = file("private", &rsa.private_key_to_pem_pkcs8().unwrap());
    let short = file("short", b"0123456789abcdef0123456789abcde\n");
    for (written, says) in [
        (jwt("RS256", &private, ""), "a private key"),
        (jwt("RS256", &secret, ""), "not an RSA public key as PEM"),
        (jwt("HS256", &short, ""), "shorter than 32 bytes"),
        (jwt("RS256", Path::new("/nowhere/at/all"), ""), "cannot read /nowhere/at/all"),
        (jwt("none", &secret, ""), "`none` is not known here | one of HS256, RS256"),
        (jwt("HS256", &secret, ", leeway: 6m"), "6m is out of range"),
    ] {
        let said = said(&written);
        assert!(matches!(said.as_slice(), [one] if one.starts_with("4:") && one.contains(says)), "{written}: {said:?}");
        assert!(!said[0].contains("0123456789abcdef"), "{said:?}");
    }
}

#[test]
fn a_key_file_belongs_to_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    let inputs = checked(&jwt("HS256", &file, "")).inputs;
    assert_eq!(inputs.now(), inputs);
    fs::write(&file, "another-secret-of-32-characters-").unwrap();
    assert_ne!(inputs.now(), inputs, "a change of the key is a change of the table");
}

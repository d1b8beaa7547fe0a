//! The manifests in `compose/kubernetes`: that the table in them is right, and that what belongs together agrees. Whether Kubernetes
//! takes them is for `integration/audit` to say.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use trestle::config::{Checked, check};

const TABLE: &str = include_str!("../../compose/kubernetes/trestle.yaml");
const TOKENS: &str = include_str!("../../compose/kubernetes/tokens.env");
const KUSTOMIZATION: &str = include_str!("../../compose/kubernetes/kustomization.yaml");
const DEPLOYMENT: &str = include_str!("../../compose/kubernetes/deployment.yaml");
const NETWORK_POLICY: &str = include_str!("../../compose/kubernetes/networkpolicy.yaml");

/// The table as a pod reads it, with the secret's keys as files. `value`: of a key of the secret, and the example's.
fn in_a_pod(folder: &str, value: impl Fn(&str, &str) -> String) -> Checked {
    let folder = env::temp_dir().join(format!("trestle-kubernetes-{}-{folder}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for (key, example) in
        TOKENS.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| !key.starts_with('#'))
    {
        fs::write(folder.join(key), value(key, example)).unwrap();
    }
    let checked =
        check(Path::new("trestle.yaml"), &TABLE.replace("/etc/trestle-tokens", folder.to_str().unwrap()), &|_| None);
    fs::remove_dir_all(&folder).unwrap();
    checked
}

/// What stands behind `key:` in the only line that has it.
fn setting<'a>(text: &'a str, key: &str) -> &'a str {
    let of_line = |line: &'a str| line.trim().strip_prefix(key)?.strip_prefix(": ");
    let found: Vec<&str> = text.lines().filter_map(of_line).collect();
    assert_eq!(found.len(), 1, "{key} in {text}");
    found[0]
}

#[test]
fn the_route_table_of_the_manifests_is_right_and_asks_for_a_token() {
    let checked = in_a_pod("right", |key, _| format!("{key}-0123456789abcdef"));
    assert!(checked.mistakes.is_empty(), "{:?}", checked.mistakes);
    let table = checked.table.unwrap();
    assert_eq!(table.listen.to_string(), "0.0.0.0:9464");
}

#[test]
fn with_the_example_tokens_trestle_does_not_start() {
    let checked = in_a_pod("example", |key, example| format!("{example}{}", &key[..1]));
    let mistakes = format!("{:?}", checked.mistakes);
    assert!(checked.table.is_none() && mistakes.contains("16"), "{mistakes}");
}

#[test]
fn each_manifest_is_part_of_the_whole() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../compose/kubernetes");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file != "kustomization.yaml") {
        assert!(KUSTOMIZATION.contains(&file), "{file} is not in kustomization.yaml");
    }
}

/// A pod's name is its host's name, which is its identity in Kafka's groups.
#[test]
fn each_pod_has_an_identity_of_its_own() {
    let named = |text: &str, what: &str| text.lines().any(|line| line.trim_start().starts_with(what));
    assert!(!named(DEPLOYMENT, "hostNetwork:") && !named(DEPLOYMENT, "hostname:"), "the host's name is the pod's");
    let said: Vec<&str> =
        TABLE.lines().filter(|line| !line.starts_with('#') && line.contains("group.instance.id")).collect();
    assert!(said.is_empty(), "all pods would be the same member: {said:?}");
}

#[test]
fn a_drain_has_the_time_that_the_table_gives_it() {
    let grace = TABLE.lines().find_map(|line| line.strip_prefix("shutdown: { grace: ")).unwrap();
    let grace: u32 = grace.trim_end_matches("s }").parse().unwrap();
    let given: u32 = setting(DEPLOYMENT, "terminationGracePeriodSeconds").parse().unwrap();
    assert!(given >= 2 * grace, "{given} s for a drain of {grace} s, and its last commit");
    assert_eq!(setting(DEPLOYMENT, "rollingUpdate"), "{ maxUnavailable: 0, maxSurge: 1 }");
}

#[test]
fn the_network_policy_lets_out_to_every_port_of_the_table() {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let clusters = TABLE.split("routes:").next().unwrap();
    let numbers = |text: &str, before: &str| -> BTreeSet<String> {
        text.split(before).skip(1).map(digits).filter(|number| !number.is_empty()).collect()
    };
    let (wanted, open) = (numbers(clusters, ":"), numbers(NETWORK_POLICY, "port: "));
    assert!(wanted.len() >= 4, "{wanted:?}");
    assert!(wanted.is_subset(&open), "{wanted:?} of {open:?}");
}

//! Removes what this process started once the process is gone, however it went.
//!
//! Containers in a static are never dropped, and a killed process drops nothing at all. So a small shell waits for the end of
//! a pipe whose other end only this process holds: the kernel closes it whatever happens.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{self, Child, Command, Stdio},
    sync::OnceLock,
};

/// The label that every container and network of this process carries.
pub fn label() -> (&'static str, String) {
    ("trestle-test", process::id().to_string())
}

/// The label of the run of `integration/test` that this process is part of: its own way to find what is left over.
pub fn run_label() -> (&'static str, String) {
    ("trestle-run", env::var("TRESTLE_RUN").unwrap_or_default())
}

/// Tried for half a minute: a container whose removal is under way already, or that is just being made, refuses it.
const REMOVE: &str = r#"
    read -r _
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        ids=$(docker ps -aq --filter "label=$1")
        nets=$(docker network ls -q --filter "label=$1")
        [ -n "$ids$nets" ] || exit 0
        [ -z "$ids" ] || docker rm -f $ids
        [ -z "$nets" ] || docker network rm $nets
        sleep 3
    done"#;

/// Must come before the first container.
pub fn arm() {
    static REAPER: OnceLock<Option<Child>> = OnceLock::new();
    REAPER.get_or_init(|| {
        let (key, value) = label();
        Command::new("sh")
            .args(["-c", REMOVE, "reaper", &format!("{key}={value}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal goes to the whole group: the reaper must outlive it.
            .process_group(0)
            .spawn()
            .ok()
    });
}

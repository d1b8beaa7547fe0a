use std::{env, path::PathBuf};

use anyhow::{Context, Result, ensure};

/// The `trestle` program of this build: `$TRESTLE_BIN`, else the one beside the test's own folder in the target directory.
/// Cargo names a binary only to tests of its own package, so `integration/test` builds it first.
pub fn bridge_binary() -> Result<PathBuf> {
    let path = match env::var_os("TRESTLE_BIN") {
        Some(path) => PathBuf::from(path),
        None => env::current_exe()?
            .parent()
            .and_then(|deps| deps.parent())
            .context("the test program has no folder")?
            .join("trestle"),
    };
    ensure!(path.is_file(), "{} is not built: run `cargo build --bin trestle` first", path.display());
    Ok(path)
}

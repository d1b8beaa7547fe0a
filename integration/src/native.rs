//! The programs in `integration/native`, which use the brokers' own Java clients: compiled and run in a broker's container.

use std::{
    env,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{brokers::Container, docker::docker};

/// Small, and soon started: a client reads or writes a few hundred messages.
const JAVA: [&str; 5] = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Duser.home=/tmp"];

/// One program, compiled.
pub struct Native<'a> {
    container: &'a Container,
    class: &'static str,
    libraries: &'static str,
    /// In the container, its own: several may be compiled at a time.
    folder: String,
}

impl<'a> Native<'a> {
    /// `libraries`: the folder of the broker's jars in its container.
    pub async fn compile(container: &'a Container, class: &'static str, libraries: &'static str) -> Result<Native<'a>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = format!("/tmp/native-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (id, compiler) = (container.id(), compiler()?);
        // Where the test runs, not where it was compiled: compiled ones outlive a checkout.
        let sources = std::env::var("CARGO_MANIFEST_DIR")? + "/native";
        docker(&["cp", &sources, &format!("{id}:{folder}")]).await?;
        docker(&["cp", &compiler, &format!("{id}:{folder}/ecj.jar")]).await?;
        let java = JAVA.join(" ");
        let compile = format!(
            "{java} -jar {folder}/ecj.jar -17 -nowarn -proc:none -cp \"$(echo {libraries}/*.jar | tr ' ' :)\" \
             -d {folder} {folder}/Line.java {folder}/{class}.java"
        );
        container.exec(&["sh", "-c", &compile]).await.with_context(|| format!("{class} does not compile"))?;
        Ok(Native { container, class, libraries, folder })
    }

    /// Runs it, and gives the lines of JSON that it printed.
    pub async fn run(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let printed = self.printed(&[], arguments).await?;
        // Clients have their say, too.
        let lines = printed.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
    }

    /// Runs it with further settings of the virtual machine, and gives all that it printed.
    pub async fn printed(&self, settings: &[&str], arguments: &[&str]) -> Result<String> {
        let path = format!("{}:{}/*", self.folder, self.libraries);
        let command = [&JAVA[..], settings, &["-cp", &path, self.class], arguments].concat();
        self.container.exec(&command).await.with_context(|| format!("{} failed", self.class))
    }
}

/// Eclipse's compiler, which needs no JDK: the images hold a JRE. `integration/test` fetches it, to `$TRESTLE_ECJ`.
fn compiler() -> Result<String> {
    let path = match env::var_os("TRESTLE_ECJ") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env::var("HOME").context("no home")?).join(".cache/trestle/ecj/ecj-3.40.0.jar"),
    };
    ensure!(path.is_file(), "{} is not there: integration/test fetches it", path.display());
    Ok(path.to_string_lossy().into_owned())
}

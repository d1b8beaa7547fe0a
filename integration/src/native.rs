//! The programs in `integration/native`, which use the brokers' own Java clients: compiled and run in a broker's container.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{brokers::Container, docker::docker};

const FOLDER: &str = "/tmp/native";
/// Small, and soon started: a client reads or writes a few hundred messages.
const JAVA: [&str; 5] =
    ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", concat!("-Duser.home=", "/tmp/native")];

/// One program, compiled.
pub struct Native<'a> {
    container: &'a Container,
    class: &'static str,
    libraries: &'static str,
}

impl<'a> Native<'a> {
    /// `libraries`: the folder of the broker's jars in its container.
    pub async fn compile(container: &'a Container, class: &'static str, libraries: &'static str) -> Result<Native<'a>> {
        let (id, compiler) = (container.id(), compiler()?);
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/native");
        docker(&["cp", sources, &format!("{id}:{FOLDER}")]).await?;
        docker(&["cp", &compiler, &format!("{id}:{FOLDER}/ecj.jar")]).await?;
        let java = JAVA.join(" ");
        let compile = format!(
            "{java} -jar {FOLDER}/ecj.jar -17 -nowarn -proc:none -cp \"$(echo {libraries}/*.jar | tr ' ' :)\" \
             -d {FOLDER} {FOLDER}/Line.java {FOLDER}/{class}.java"
        );
        container.exec(&["sh", "-c", &compile]).await.with_context(|| format!("{class} does not compile"))?;
        Ok(Native { container, class, libraries })
    }

    /// Runs it, and gives the lines of JSON that it printed.
    pub async fn run(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let path = format!("{FOLDER}:{}/*", self.libraries);
        let command = [&JAVA[..], &["-cp", &path, self.class], arguments].concat();
        let printed = self.container.exec(&command).await.with_context(|| format!("{} failed", self.class))?;
        // Clients have their say, too.
        let lines = printed.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
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

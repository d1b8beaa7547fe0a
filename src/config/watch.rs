//! Notices that a table, or a file that it names, has changed.
//!
//! By looking at the content again and again. The system's own notices would come sooner, and do not come at all for a network
//! volume, or for a link that an editor or Kubernetes puts in the file's place unless every folder on the way is watched.

use std::path::PathBuf;

use tokio::{
    task::spawn_blocking,
    time::{Duration, sleep},
};

use super::{Checked, Found, Inputs, load};

/// Between two looks. What has changed is taken for whole when it is the same at the next look.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Follows the files that a table was read from.
pub struct Watch {
    file: PathBuf,
    read: Inputs,
    /// What was seen at the last look, if it was not what was read.
    changing: Option<Inputs>,
}

impl Watch {
    /// `inputs`: as [`load`] read them.
    pub fn new(file: PathBuf, inputs: Inputs) -> Self {
        Watch { file, read: inputs, changing: None }
    }

    /// Resolves when the files hold something else than what was read, and no longer change: a table that is half written
    /// may be one that is right and lacks routes. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            sleep(LOOK_EVERY).await;
            let read = self.read.clone();
            // A look that fails for want of a thread is made again.
            let Ok(now) = spawn_blocking(move || read.now()).await else { continue };
            let changed = (now != self.read).then_some(now);
            if changed.is_some() && changed == self.changing {
                return;
            }
            self.changing = changed;
        }
    }

    /// Reads and checks the table as it is now. What was read is not a change any more, whether it is right or not.
    /// `found`: the topics that its patterns matched.
    pub async fn load(&mut self, found: Found) -> Result<Checked, String> {
        let file = self.file.clone();
        let checked = spawn_blocking(move || load(&file, &found))
            .await
            .map_err(|error| format!("it could not be read: {error}"))?;
        self.read = checked.inputs.clone();
        self.changing = None;
        Ok(checked)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use tokio::time::timeout;

    use super::*;

    /// A folder with a table that fills in a secret from a file.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "one").unwrap();
        let file = folder.path().join("table.yaml");
        fs::write(&file, table(folder.path())).unwrap();
        (folder, file)
    }

    fn table(folder: &Path) -> String {
        format!("clusters: {{}}\nroutes: {{}}\nadmin: {{ listen: \"${{file:{}/secret}}\" }}\n", folder.display())
    }

    fn watch(file: &Path) -> Watch {
        Watch::new(file.to_owned(), load(file, &Found::new()).inputs)
    }

    async fn stays(watch: &mut Watch) -> bool {
        timeout(LOOK_EVERY * 10, watch.changed()).await.is_err()
    }

    async fn notices(watch: &mut Watch) -> bool {
        timeout(LOOK_EVERY * 5 / 2, watch.changed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_content_is_noticed_once_whatever_its_size_and_time() {
        let (_folder, file) = folder();
        let mut watch = watch(&file);
        assert!(stays(&mut watch).await, "nothing has changed");
        let (text, time) = (fs::read_to_string(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
        fs::write(&file, text.replace("routes", "rootes")).unwrap();
        fs::File::options().append(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(notices(&mut watch).await);
        assert!(watch.load(Found::new()).await.unwrap().table.is_none());
        assert!(stays(&mut watch).await, "what is wrong is told once");
        fs::write(&file, text).unwrap();
        assert!(notices(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_changes_is_left_alone() {
        let (_folder, file) = folder();
        let mut watch = watch(&file);
        for length in 0..20 {
            fs::write(&file, "#".repeat(length)).unwrap();
            assert!(timeout(LOOK_EVERY * 3 / 2, watch.changed()).await.is_err(), "at length {length}");
        }
        assert!(notices(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_in_the_files_place_is_followed() {
        let (folder, file) = folder();
        let at = |name: &str| folder.path().join(name);
        // As Kubernetes mounts a ConfigMap: the file is a link through a link, which is replaced.
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("table.yaml"), format!("{}# {version}\n", table(folder.path()))).unwrap();
        }
        symlink(at("one"), at("..data")).unwrap();
        fs::remove_file(&file).unwrap();
        symlink("..data/table.yaml", &file).unwrap();
        let mut watch = watch(&file);
        assert!(stays(&mut watch).await);
        symlink(at("two"), at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert!(notices(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_filled_in_belongs_to_the_table() {
        let (folder, file) = folder();
        let mut watch = watch(&file);
        fs::write(folder.path().join("secret"), "two").unwrap();
        assert!(notices(&mut watch).await);
        watch.load(Found::new()).await.unwrap();
        fs::remove_file(folder.path().join("secret")).unwrap();
        assert!(notices(&mut watch).await);
        watch.load(Found::new()).await.unwrap();
        assert!(stays(&mut watch).await, "that it is gone is told once");
        fs::write(folder.path().join("secret"), "two").unwrap();
        assert!(notices(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_is_read_once() {
        let (read, write) = std::io::pipe().unwrap();
        use std::{io::Write, os::fd::AsRawFd};
        (&write).write_all(b"clusters: {}\nroutes: {}\n").unwrap();
        drop(write);
        let file = PathBuf::from(format!("/proc/self/fd/{}", read.as_raw_fd()));
        assert!(stays(&mut watch(&file)).await);
    }
}

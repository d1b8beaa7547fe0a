//! The files that a table is made of: itself and those of `${file:/path}`, with what was read in each.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Tells whether the files still hold what was read in them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inputs(BTreeMap<PathBuf, Input>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Input {
    /// Bytes that may be read.
    most: u64,
    /// Of the content; nothing of a file that could not be read.
    digest: Option<u64>,
}

impl Inputs {
    /// Reads a file of `most` bytes at most, and remembers what was in it.
    pub fn read(&mut self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let content = read(path, most);
        let digest = content.as_deref().ok().map(digest);
        self.0.insert(path.to_owned(), Input { most, digest });
        content
    }

    /// The same files as they are now. By content and through links: a link that changes its target, as in a Kubernetes
    /// volume, changes neither the name nor, perhaps, the size or the time.
    pub fn now(&self) -> Self {
        let now = |(path, input): (&PathBuf, &Input)| {
            // A pipe is read once.
            let pipe = fs::metadata(path).is_ok_and(|about| !about.is_file());
            let digest = if pipe { input.digest } else { read(path, input.most).ok().as_deref().map(digest) };
            (path.clone(), Input { most: input.most, digest })
        };
        Inputs(self.0.iter().map(now).collect())
    }

    pub fn extend(&mut self, others: Inputs) {
        self.0.extend(others.0);
    }
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

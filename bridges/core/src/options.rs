/// Whose options they are. A topic is read or written; a cluster's options hold for all that is done there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OptionsOf {
    Cluster,
    Source,
    Sink,
}

/// An option, by the client's own name, that a connector does not take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrongOption {
    pub name: String,
    /// In words for people, the name in it.
    pub problem: String,
    /// The names there are, when this is none of them.
    pub known: Option<&'static [&'static str]>,
}

impl WrongOption {
    pub fn unknown(name: &str, known: &'static [&'static str]) -> Self {
        WrongOption { name: name.to_owned(), problem: format!("there is no option `{name}` here"), known: Some(known) }
    }

    pub fn value(name: &str, problem: impl Into<String>) -> Self {
        WrongOption { name: name.to_owned(), problem: problem.into(), known: None }
    }
}

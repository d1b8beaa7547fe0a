/// What becomes of each part of a message at a connector's hands, in sentences for people: `trestle explain` puts those of a
/// route's two ends together.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    pub read: Account,
    pub written: Account,
}

/// One side of it. Every sentence holds for every topic; what depends on a topic's settings is said as a condition.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    pub key: &'static str,
    pub value: &'static str,
    /// Null and empty values.
    pub null: &'static str,
    pub headers: &'static str,
    pub time: &'static str,
    pub order: &'static str,
    pub delay: &'static str,
    pub size: &'static str,
    /// When a message is read or written more than once.
    pub repeats: &'static str,
}

impl Account {
    /// Each part by its name, in the order in which people ask.
    pub fn parts(&self) -> [(&'static str, &'static str); 9] {
        [
            ("key", self.key),
            ("value", self.value),
            ("null", self.null),
            ("headers", self.headers),
            ("time", self.time),
            ("order", self.order),
            ("delay", self.delay),
            ("size", self.size),
            ("repeats", self.repeats),
        ]
    }
}

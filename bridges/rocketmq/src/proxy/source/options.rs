//! Options of a topic that is read through a proxy.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    settings::INVISIBLE_DURATION,
    tags::{TAGS_OPTION, Tags},
};

pub struct Options {
    pub tags: Tags,
    /// For so long a message that was received is nobody else's, unless it is renewed; how late it comes after a crash.
    pub invisible: Duration,
}

impl Options {
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self, String> {
        let known = [TAGS_OPTION, INVISIBLE_DURATION.name];
        if let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("`{name}` speaks of brokers, and does nothing with `proxy`"));
        }
        Ok(Options { tags: Tags::read(options)?, invisible: INVISIBLE_DURATION.read(options)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Options, String> {
        Options::read(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn options_have_defaults_and_bounds_and_those_of_brokers_are_refused() {
        let none = Options::read(&BTreeMap::new()).unwrap();
        assert!(none.tags.is_all() && none.invisible == Duration::from_secs(60));
        assert_eq!(read("invisibleDuration", "10000").unwrap().invisible, Duration::from_secs(10));
        for bad in ["9999", "43200001", "soon", "-1"] {
            assert!(read("invisibleDuration", bad).is_err(), "{bad}");
        }
        assert_eq!(read("tags", "b || a").unwrap().tags.expression, "a || b");
        assert!(read("rebalanceInterval", "1000").err().unwrap().contains("proxy"));
    }
}

//! `trestle schema`: the JSON Schema of the route table, for editors and other programs.

use super::{Exit, answer};
use crate::config;

pub fn schema() -> Exit {
    answer(&text());
    Exit::Fine
}

fn text() -> String {
    format!("{:#}\n", config::published_schema())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_the_one_that_is_printed() {
        assert_eq!(
            include_str!("../../compose/trestle.schema.json"),
            text(),
            "renew it: cargo run -- schema > compose/trestle.schema.json"
        );
    }

    #[test]
    fn the_example_tells_editors_where_its_schema_is() {
        let first = include_str!("../../compose/trestle.yaml").lines().next();
        assert_eq!(first, Some("# yaml-language-server: $schema=trestle.schema.json"));
    }
}

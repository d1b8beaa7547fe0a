//! The route table, as a function of any bytes: for `integration/fuzz`.

use std::path::Path;

/// Whatever stands in a table, it is one or its mistakes are told.
pub fn route_table(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Those would be read.
    if text.contains("${file:") {
        return;
    }
    let checked = crate::config::check(Path::new("table.yaml"), &text, &|_| None);
    assert!(checked.table.is_some() || !checked.mistakes.is_empty(), "neither a table nor a mistake");
}

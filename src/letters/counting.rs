//! How many letters there are.

use std::collections::BTreeMap;

use super::{Letters, Pick};

const HOUR: i64 = 3_600_000;

/// Letters by the hour (its beginning in milliseconds) in which they failed last, their route and their cause.
pub type ByHour = BTreeMap<(i64, String, String), u64>;

pub async fn by_hour(pick: &Pick<'_>) -> Result<ByHour, String> {
    let mut counts = ByHour::new();
    for topic in &pick.topics {
        let Some(mut letters) = Letters::open(topic, pick.table.memory.largest_message, pick.patience).await? else {
            continue;
        };
        while let Some(letter) = letters.next().await? {
            if pick.filter.takes(&letter) {
                let hour = letter.last_failed.unwrap_or_default().div_euclid(HOUR) * HOUR;
                *counts.entry((hour, letter.route, letter.cause)).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

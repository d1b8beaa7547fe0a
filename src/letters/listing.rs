//! Letters page by page.

use std::{collections::BTreeMap, fmt};

use trestle_core::{PartitionId, Position};
use trestle_dlq::Letter;

use super::{Letters, Pick};

/// A letter without its body.
pub struct Listed {
    pub topic: String,
    pub letter: Letter,
    /// Of the body; nothing of a null.
    pub bytes: Option<usize>,
}

#[derive(Default)]
pub struct Page {
    pub letters: Vec<Listed>,
    /// Of all pages, behind `after`.
    pub count: u64,
    /// Behind the page.
    pub more: u64,
    /// Messages there that are no whole dead letters.
    pub foreign: u64,
    /// Where the page ends.
    pub after: After,
}

/// A place between two pages: the last letter of each partition that was listed. It holds when letters in front of it are
/// dealt with meanwhile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct After(BTreeMap<PartitionId, Position>);

impl After {
    /// As [`After::to_string`] wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let place = |place: &str| {
            let (partition, position) = place.split_once('-')?;
            Some((PartitionId(partition.parse().ok()?), position.parse().ok()?))
        };
        text.split(',').map(place).collect::<Option<_>>().map(After)
    }

    fn is_behind(&self, letter: &Letter) -> bool {
        let listed = self.0.get(&letter.partition);
        listed.is_some_and(|last| letter.positions.iter().min().is_some_and(|first| first <= last))
    }

    fn listed(&mut self, letter: &Letter) {
        if let Some(first) = letter.positions.iter().min() {
            self.0.insert(letter.partition, *first);
        }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.0.iter().map(|(partition, position)| format!("{partition}-{position}")).collect();
        f.write_str(&places.join(","))
    }
}

/// The letters behind `after` and `skip` further ones, `limit` of them at most. Letters of several topics are paged by
/// `skip` alone.
pub async fn page(pick: &Pick<'_>, after: After, skip: u64, limit: usize) -> Result<Page, String> {
    let mut page = Page { after: after.clone(), ..Page::default() };
    for topic in &pick.topics {
        let Some(mut letters) = Letters::open(topic, pick.table.memory.largest_message, pick.patience).await? else {
            continue;
        };
        while let Some(mut letter) = letters.next().await? {
            if after.is_behind(&letter) || !pick.filter.takes(&letter) {
                continue;
            }
            page.count += 1;
            if page.count <= skip {
                continue;
            }
            if page.letters.len() == limit {
                page.more += 1;
                continue;
            }
            page.after.listed(&letter);
            // Bodies are not for lists.
            let bytes = letter.message.value.take().map(|value| value.len());
            page.letters.push(Listed { topic: topic.to_string(), letter, bytes });
        }
        page.foreign += letters.foreign();
    }
    Ok(page)
}

/// Whole letters and their topics, `limit` of them at most.
pub async fn find(pick: &Pick<'_>, limit: usize) -> Result<Vec<(String, Letter)>, String> {
    let mut found = Vec::new();
    for topic in &pick.topics {
        let Some(mut letters) = Letters::open(topic, pick.table.memory.largest_message, pick.patience).await? else {
            continue;
        };
        while found.len() < limit {
            let Some(letter) = letters.next().await? else { break };
            if pick.filter.takes(&letter) {
                found.push((topic.to_string(), letter));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use trestle_core::Message;

    use super::*;

    fn letter(partition: u32, offset: u64) -> Letter {
        let mut message = Message::at(Position::Offset(offset));
        message.headers.push("trestle-dlq-id", Some("id".into()));
        Letter::read(PartitionId(partition), &message).unwrap()
    }

    #[test]
    fn a_place_between_pages_is_told_and_read_again() {
        let mut after = After::default();
        after.listed(&letter(0, 7));
        after.listed(&letter(3, 9));
        assert_eq!(after.to_string(), "0-7,3-9");
        assert_eq!(After::parse("0-7,3-9"), Some(after.clone()));
        assert_eq!(After::parse("2-1:2:3").map(|after| after.to_string()).as_deref(), Some("2-1:2:3"));
        for wrong in ["", "7", "x-7", "0-x", "0-7,"] {
            assert_eq!(After::parse(wrong), None, "{wrong}");
        }
        let behind = [(0, 7), (0, 8), (3, 9), (3, 10), (1, 0)].map(|(p, offset)| after.is_behind(&letter(p, offset)));
        assert_eq!(behind, [true, false, true, false, false]);
    }
}

//! Which numbers were seen, in a bit each at most.

/// Numbers that share a page.
const PAGE: u64 = 1 << 16;

/// Pages in which every number was seen take no room.
pub struct Numbers {
    /// `None`: every one of them.
    pages: Vec<Option<Page>>,
    /// How many there can be.
    end: u64,
    seen: u64,
}

#[derive(Default)]
struct Page {
    /// Made when the first number comes.
    bits: Vec<u64>,
    seen: u64,
}

impl Numbers {
    /// Of 0 to `end`, without `end`.
    pub fn below(end: u64) -> Self {
        let pages = end.div_ceil(PAGE);
        Numbers { pages: (0..pages).map(|_| Some(Page::default())).collect(), end, seen: 0 }
    }

    /// Whether it is new. It has to be below the end.
    pub fn see(&mut self, number: u64) -> bool {
        let last = number / PAGE == self.end / PAGE;
        let all = if last { self.end % PAGE } else { PAGE };
        let Some(page) = self.pages.get_mut((number / PAGE) as usize).and_then(Option::as_mut) else { return false };
        if page.bits.is_empty() {
            page.bits = vec![0; (PAGE / 64) as usize];
        }
        let (word, bit) = (&mut page.bits[(number % PAGE / 64) as usize], 1 << (number % 64));
        let new = *word & bit == 0;
        *word |= bit;
        page.seen += u64::from(new);
        if page.seen == all {
            self.pages[(number / PAGE) as usize] = None;
        }
        self.seen += u64::from(new);
        new
    }

    pub fn seen(&self) -> u64 {
        self.seen
    }

    pub fn missing(&self) -> u64 {
        self.end - self.seen
    }

    /// The numbers that were not seen, in order.
    pub fn unseen(&self) -> impl Iterator<Item = u64> {
        let partly = self.pages.iter().zip(0..).filter_map(|(page, index)| Some((page.as_ref()?, index * PAGE)));
        partly.flat_map(|(page, first)| {
            let unseen =
                move |at: &u64| page.bits.get((at / 64) as usize).is_none_or(|word| word >> (at % 64) & 1 == 0);
            (0..PAGE.min(self.end - first)).filter(unseen).map(move |at| first + at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_and_the_rest_is_unseen() {
        for end in [1, 64, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 7] {
            let mut numbers = Numbers::below(end);
            let skipped = |number: &u64| number % 1_000 == 7 || *number == end - 1;
            for number in (0..end).rev().filter(|number| !skipped(number)) {
                assert!(numbers.see(number), "{number} of {end}");
                assert!(!numbers.see(number), "{number} of {end}, again");
            }
            let unseen: Vec<u64> = (0..end).filter(skipped).collect();
            assert_eq!(numbers.unseen().collect::<Vec<_>>(), unseen);
            assert_eq!(numbers.missing(), unseen.len() as u64);
            assert!(unseen.iter().all(|number| numbers.see(*number)));
            assert_eq!((numbers.missing(), numbers.seen()), (0, end));
            assert!(
                numbers.pages.iter().all(Option::is_none) && !numbers.see(0),
                "nothing is kept of what is complete"
            );
        }
    }
}

//! Sorts more rows than memory holds: sorted runs go to temporary files, which are merged.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    marker::PhantomData,
};

/// Runs that are merged at a time: one open file each.
const FAN_IN: usize = 64;
/// Bytes of a run that are read or written at a time.
const BUFFER: usize = 64 << 10;

/// What can be sorted: of one size when it is written.
pub trait Row: Ord + Copy {
    /// Bytes.
    const SIZE: usize;
    fn write(&self, to: &mut Vec<u8>);
    /// `from` has [`Row::SIZE`] bytes that [`Row::write`] wrote.
    fn read(from: &[u8]) -> Self;
}

pub struct Sorter<R> {
    rows: Vec<R>,
    /// Rows in memory at most.
    most: usize,
    /// Runs that were merged so many times, each fewer than [`FAN_IN`].
    levels: Vec<Vec<File>>,
}

impl<R: Row> Sorter<R> {
    /// `memory`: bytes that rows in memory may take.
    pub fn new(memory: usize) -> Self {
        Sorter { rows: Vec::new(), most: (memory / size_of::<R>()).max(1), levels: Vec::new() }
    }

    pub fn push(&mut self, row: R) -> io::Result<()> {
        if self.rows.len() == self.most {
            self.rows.sort_unstable();
            let run = write(self.rows.drain(..).map(Ok))?;
            self.keep(run, 0)?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn keep(&mut self, run: File, level: usize) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
        if self.levels[level].len() < FAN_IN {
            return Ok(());
        }
        let runs = std::mem::take(&mut self.levels[level]);
        let merged = write(Sorted::<R>::merge(Vec::new(), runs)?)?;
        self.keep(merged, level + 1)
    }

    /// All rows, the lowest first.
    pub fn sorted(mut self) -> io::Result<Sorted<R>> {
        self.rows.sort_unstable();
        Sorted::merge(self.rows, self.levels.into_iter().flatten().collect())
    }
}

fn write<R: Row>(rows: impl Iterator<Item = io::Result<R>>) -> io::Result<File> {
    let mut to = BufWriter::with_capacity(BUFFER, tempfile::tempfile()?);
    let mut bytes = Vec::with_capacity(R::SIZE);
    for row in rows {
        bytes.clear();
        row?.write(&mut bytes);
        to.write_all(&bytes)?;
    }
    let mut file = to.into_inner()?;
    file.rewind()?;
    Ok(file)
}

/// Sorted runs, read as one.
pub struct Sorted<R> {
    memory: std::vec::IntoIter<R>,
    files: Vec<Run<R>>,
    /// The next row of each run, and the run's index; that of `memory` is behind those of `files`.
    heads: BinaryHeap<Reverse<(R, usize)>>,
}

struct Run<R> {
    file: BufReader<File>,
    bytes: Vec<u8>,
    rows: PhantomData<R>,
}

impl<R: Row> Run<R> {
    fn next(&mut self) -> io::Result<Option<R>> {
        let mut there = 0;
        while there < R::SIZE {
            match self.file.read(&mut self.bytes[there..])? {
                0 if there == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => there += more,
            }
        }
        Ok(Some(R::read(&self.bytes)))
    }
}

impl<R: Row> Sorted<R> {
    fn merge(memory: Vec<R>, files: Vec<File>) -> io::Result<Self> {
        let run =
            |file| Run { file: BufReader::with_capacity(BUFFER, file), bytes: vec![0; R::SIZE], rows: PhantomData };
        let files: Vec<_> = files.into_iter().map(run).collect();
        let mut sorted = Sorted { memory: memory.into_iter(), files, heads: BinaryHeap::new() };
        for index in 0..=sorted.files.len() {
            sorted.refill(index)?;
        }
        Ok(sorted)
    }

    fn refill(&mut self, index: usize) -> io::Result<()> {
        let next = match self.files.get_mut(index) {
            Some(run) => run.next()?,
            None => self.memory.next(),
        };
        self.heads.extend(next.map(|row| Reverse((row, index))));
        Ok(())
    }
}

impl<R: Row> Iterator for Sorted<R> {
    type Item = io::Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((row, index)) = self.heads.pop()?;
        Some(self.refill(index).map(|()| row))
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    impl Row for u64 {
        const SIZE: usize = 8;
        fn write(&self, to: &mut Vec<u8>) {
            to.extend(self.to_be_bytes());
        }
        fn read(from: &[u8]) -> Self {
            u64::from_be_bytes(from.try_into().unwrap())
        }
    }

    #[test]
    fn rows_come_back_sorted_and_complete_however_little_memory_there_is() {
        let mut random = SmallRng::seed_from_u64(1);
        for (count, in_memory) in [(0, 1), (1, 1), (1_000, 1_000), (1_000, 999), (1_000, 7), (5_000, 1)] {
            let mut rows: Vec<u64> = (0..count).map(|_| random.random_range(0..1_000)).collect();
            let mut sorter = Sorter::new(in_memory * 8);
            for row in &rows {
                sorter.push(*row).unwrap();
            }
            assert!(sorter.levels.iter().all(|runs| runs.len() < FAN_IN), "files are bounded");
            rows.sort_unstable();
            let sorted: Vec<u64> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            assert_eq!(sorted, rows, "{count} rows, {in_memory} in memory");
        }
    }
}

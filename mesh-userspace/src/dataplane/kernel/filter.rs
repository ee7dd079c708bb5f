//! The flow table's filter, which the agent renews beside the program; the rules are [`mesh_common::filter`]'s.

use super::{DataplaneError, mapped::Mapped, syscalls::wait_for_packets};
use mesh_common::filter::{Mark, Step, index, is_worn, other};

/// Words of a generation for so many flows: two bits for each, in whole cache lines. More would be told apart better, but
/// not stay in the caches.
pub(super) fn words(flows: u32) -> u32 {
    flows.div_ceil(256).max(1).saturating_mul(8)
}

pub(super) struct Filter {
    head: Mapped<u64>,
    /// Of both generations.
    words: Mapped<u64>,
    /// What comes next. It is not known what an earlier agent did.
    step: Step,
}

impl Filter {
    pub(super) fn new(head: Mapped<u64>, words: Mapped<u64>) -> Self {
        Self { head, words, step: Step::default() }
    }

    /// Sets a flow's bits in both generations; then its record may be written.
    pub(super) fn note(&self, key: u64) {
        self.set(0, Mark::of(key));
        self.set(1, Mark::of(key));
    }

    /// Takes the next step towards another generation, if that which counts is worn or the first step is done. `records`
    /// are the words of all records, of which there are so many.
    pub(super) fn renew(
        &mut self,
        count: u64,
        records: impl Iterator<Item = u64>,
    ) -> Result<(), DataplaneError> {
        let generation = self.head.read(0);
        if self.step == Step::Clear && !is_worn(self.ones(generation), count, self.size()) {
            return Ok(());
        }
        let idle = other(generation);
        wait_for_packets();
        self.step = match self.step {
            Step::Clear => {
                self.places(idle).for_each(|place| self.words.zero(place));
                Step::Fill
            }
            Step::Fill => {
                records.for_each(|record| self.set(idle, Mark::of(record)));
                self.head.write(0, &idle, 0)?;
                Step::Clear
            }
        };
        Ok(())
    }

    fn set(&self, generation: u64, mark: Mark) {
        self.words.set_bits(index(generation, mark.word(self.size()), self.size()), mark.bits());
    }

    /// How many bits of a generation are set.
    fn ones(&self, generation: u64) -> u64 {
        self.places(generation).map(|place| u64::from(self.words.read(place).count_ones())).sum()
    }

    fn places(&self, generation: u64) -> impl Iterator<Item = usize> {
        let size = self.size();
        (0..size).map(move |word| index(generation, word, size))
    }

    /// Words of a generation.
    fn size(&self) -> u32 {
        u32::try_from(self.words.len() / 2).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::kernel::mapped::Memory;
    use mesh_common::filter::HEAD;

    const FLOWS: u32 = 1000;
    const RECORDS: u64 = 100;

    fn memory() -> Memory {
        Memory::anonymous(4096).unwrap()
    }

    /// The filter as an agent finds it.
    fn filter(memory: &Memory) -> Filter {
        let head = Mapped::new("head", memory, 0, HEAD);
        Filter::new(head, Mapped::new("words", memory, u64::from(HEAD) * 8, words(FLOWS) * 2))
    }

    fn key(flow: u64) -> u64 {
        flow.wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    /// Flows up to a number, in the generation that counts.
    fn known(filter: &Filter, flows: u64) -> u64 {
        let counts = filter.head.read(0);
        let marks = (0..flows).map(|flow| Mark::of(key(flow)));
        let word = |mark: &Mark| filter.words.read(index(counts, mark.word(filter.size()), filter.size()));
        marks.filter(|mark| mark.is_in(word(mark))).fold(0, |count, _| count + 1)
    }

    fn renew(filter: &mut Filter) {
        filter.renew(RECORDS, (0..RECORDS).map(key)).unwrap();
    }

    #[test]
    fn a_renewed_filter_knows_what_is_recorded_and_little_else() {
        let memory = memory();
        let mut filter = filter(&memory);
        (0..5000).for_each(|flow| filter.note(key(flow)));
        assert_eq!(known(&filter, 5000), 5000);
        renew(&mut filter);
        assert_eq!(known(&filter, 5000), 5000, "the generation that is cleared does not count");
        filter.note(key(9_999_999));
        renew(&mut filter);
        assert_eq!(filter.head.read(0), 1);
        assert_eq!(known(&filter, RECORDS), RECORDS);
        let mark = Mark::of(key(9_999_999));
        assert!(mark.is_in(filter.words.read(index(1, mark.word(filter.size()), filter.size()))));
        assert!(known(&filter, 5000) < 300, "{}", known(&filter, 5000));
        renew(&mut filter);
        renew(&mut filter);
        assert_eq!((filter.head.read(0), filter.step), (1, Step::Clear), "it is not worn any more");
    }

    #[test]
    fn an_agent_that_ended_at_any_step_leaves_every_record_known() {
        let memory = memory();
        let first = filter(&memory);
        (0..5000).for_each(|flow| first.note(key(flow)));
        for steps in [1, 2, 3] {
            let mut agent = filter(&memory);
            for _ in 0..steps {
                renew(&mut agent);
                assert_eq!(known(&agent, RECORDS), RECORDS);
            }
        }
        assert!(known(&first, 5000) < 300, "one of them got to the end");
    }

    #[test]
    fn words_follow_from_flows() {
        assert_eq!([0, 1, 256, 257, 262_144, 1_000_000].map(words), [8, 8, 8, 16, 8192, 31_256]);
    }
}

//! How many flows of each service begin, as the programs count it.

use super::{DataplaneError, mapped::Mapped};
use mesh_common::flood::Flood;

/// The map of floods.
pub(super) struct Floods(Mapped<Flood>);

/// Its name.
pub(super) const FLOODS: &str = "FLOODS";

/// The word that has the limit, in its lower half.
const LIMIT: usize = 2;

impl Floods {
    pub(super) const fn new(floods: Mapped<Flood>) -> Self {
        Self(floods)
    }

    /// Sets a service's limit, and leaves what programs write in the same word.
    pub(super) fn set_limit(&self, service: u32, limit: u32) -> Result<(), DataplaneError> {
        self.0.change_word(service, LIMIT, |word| word & !u64::from(u32::MAX) | u64::from(limit))
    }

    pub(super) fn read(&self, service: u32) -> Flood {
        self.0.read(usize::try_from(service).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::kernel::mapped::Memory;

    #[test]
    fn a_limit_leaves_the_rest_as_it_is() {
        let memory = Memory::anonymous(4096).unwrap();
        let before = Flood { begun: [5, 6], limit: 7, answered: 8 };
        let map = Mapped::new("floods", &memory, 0, 2);
        map.write(1, &before, 0).unwrap();
        let floods = Floods::new(map);
        floods.set_limit(1, 9).unwrap();
        assert_eq!(floods.read(1), Flood { limit: 9, ..before });
        assert_eq!(floods.read(0), Flood::default());
        assert!(floods.set_limit(2, 1).is_err());
    }
}

//! Maps in the memory of a process.

use crate::{Global, bindings::BPF_NOEXIST};
use core::{borrow::Borrow, cell::UnsafeCell, marker::PhantomData};
use lpm_trie::Key;

/// An array whose elements begin at multiples of 8 bytes. There is none until it is laid out.
#[derive(Debug)]
pub struct Array<T> {
    elements: Global<Option<&'static [UnsafeCell<u64>]>>,
    values: PhantomData<T>,
}

// SAFETY: programs are run by one thread.
unsafe impl<T> Sync for Array<T> {}

/// Of the processor that runs programs.
pub type PerCpuArray<T> = Array<T>;

impl<T> Array<T> {
    const WORDS: usize = size_of::<T>().div_ceil(8);

    /// An array; its size is its loader's business.
    #[must_use]
    pub const fn with_max_entries(_entries: u32, _flags: u32) -> Self {
        Self { elements: Global::new(None), values: PhantomData }
    }

    /// Gives the array these words. Its memory is its own for good, and taken again for as many.
    pub fn lay_out(&self, words: Vec<u64>) {
        if self.cells().len() != words.len() {
            self.elements.store(Some(words.into_iter().map(UnsafeCell::new).collect::<Vec<_>>().leak()));
            return;
        }
        for (cell, word) in self.cells().iter().zip(words) {
            // SAFETY: no program runs meanwhile.
            unsafe { *cell.get() = word };
        }
    }

    /// Its words now.
    pub fn words(&self) -> Vec<u64> {
        // SAFETY: no program runs meanwhile.
        self.cells().iter().map(|word| unsafe { *word.get() }).collect()
    }

    fn cells(&self) -> &'static [UnsafeCell<u64>] {
        self.elements.load().unwrap_or_default()
    }

    /// An element.
    pub fn get(&self, index: u32) -> Option<&T> {
        // SAFETY: the element is as large, and any words are a value of what maps hold.
        self.get_ptr(index).map(|element| unsafe { &*element })
    }

    /// An element.
    pub fn get_ptr(&self, index: u32) -> Option<*const T> {
        self.get_ptr_mut(index).map(<*mut T>::cast_const)
    }

    /// An element; what stands behind it is the same allocation, as in the kernel's arrays of one large element.
    pub fn get_ptr_mut(&self, index: u32) -> Option<*mut T> {
        let cells = self.cells().get(index as usize * Self::WORDS..)?;
        cells.get(Self::WORDS.checked_sub(1)?)?;
        Some(cells.as_ptr().cast_mut().cast())
    }
}

/// A hash table.
#[derive(Debug)]
pub struct HashMap<K, V> {
    elements: UnsafeCell<Vec<(K, Box<V>)>>,
}

// SAFETY: programs are run by one thread.
unsafe impl<K, V> Sync for HashMap<K, V> {}

/// One that forgets the least recently used. This one does not: whoever loads it keeps it small.
pub type LruHashMap<K, V> = HashMap<K, V>;

impl<K: Copy + PartialEq, V: Copy> HashMap<K, V> {
    /// A table; its size is its loader's business.
    #[must_use]
    pub const fn with_max_entries(_entries: u32, _flags: u32) -> Self {
        Self { elements: UnsafeCell::new(Vec::new()) }
    }

    /// A value.
    ///
    /// # Safety
    ///
    /// Nobody replaces it meanwhile.
    pub unsafe fn get(&self, key: impl Borrow<K>) -> Option<&V> {
        // SAFETY: no other reference is held.
        let elements = unsafe { &*self.elements.get() };
        elements.iter().find(|(known, _)| known == key.borrow()).map(|(_, value)| &**value)
    }

    /// A value, to be changed in its place.
    pub fn get_ptr_mut(&self, key: impl Borrow<K>) -> Option<*mut V> {
        // SAFETY: values have places of their own, which stay where they are.
        let elements = unsafe { &mut *self.elements.get() };
        let found = elements.iter_mut().find(|(known, _)| known == key.borrow());
        found.map(|(_, value)| core::ptr::from_mut(&mut **value))
    }

    /// Takes a value out.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn remove(&self, key: impl Borrow<K>) -> Result<(), i32> {
        /// `ENOENT` (include/uapi/asm-generic/errno-base.h).
        const ENOENT: i32 = 2;
        // SAFETY: no reference is held while a program calls this.
        let elements = unsafe { &mut *self.elements.get() };
        let at = elements.iter().position(|(known, _)| known == key.borrow()).ok_or(-ENOENT)?;
        elements.swap_remove(at);
        Ok(())
    }

    /// Adds a value, or replaces it, if the flags do not say that there must be none.
    ///
    /// # Errors
    ///
    /// There is one.
    pub fn insert(&self, key: impl Borrow<K>, value: impl Borrow<V>, flags: u64) -> Result<(), i32> {
        /// `EEXIST` (include/uapi/asm-generic/errno-base.h).
        const EEXIST: i32 = 17;
        // SAFETY: no reference is held while a program calls this.
        let elements = unsafe { &mut *self.elements.get() };
        match elements.iter_mut().find(|(known, _)| known == key.borrow()) {
            Some(_) if flags == u64::from(BPF_NOEXIST) => return Err(-EEXIST),
            Some((_, known)) => **known = *value.borrow(),
            None => elements.push((*key.borrow(), Box::new(*value.borrow()))),
        }
        Ok(())
    }

    /// Takes all out, for these to take their place.
    pub fn replace(&self, elements: impl IntoIterator<Item = (K, V)>) {
        let elements = elements.into_iter().map(|(key, value)| (key, Box::new(value))).collect();
        // SAFETY: no program runs meanwhile.
        unsafe { *self.elements.get() = elements };
    }
}

/// A trie of prefixes.
#[derive(Debug)]
pub struct LpmTrie<K, V> {
    prefixes: HashMap<(u32, K), V>,
}

impl<K: Copy + PartialEq, V: Copy> LpmTrie<K, V> {
    /// A trie; its size is its loader's business.
    #[must_use]
    pub const fn with_max_entries(_entries: u32, _flags: u32) -> Self {
        Self { prefixes: HashMap::with_max_entries(0, 0) }
    }

    /// The value of the longest prefix of a key all of whose bits count.
    pub fn get(&self, key: impl Borrow<Key<K>>) -> Option<&V> {
        // SAFETY: nobody changes prefixes while a program runs.
        let prefixes = unsafe { &*self.prefixes.elements.get() };
        let data = key.borrow().data;
        let matches = prefixes.iter().filter(|((length, prefix), _)| is_prefix(prefix, *length, &data));
        matches.max_by_key(|((length, _), _)| *length).map(|(_, value)| &**value)
    }

    /// Takes all out, for these to take their place: each with its length in bits.
    pub fn replace(&self, prefixes: impl IntoIterator<Item = ((u32, K), V)>) {
        self.prefixes.replace(prefixes);
    }
}

/// Whether two values have so many bits in common, the highest of the first byte first.
fn is_prefix<K>(one: &K, length: u32, other: &K) -> bool {
    // SAFETY: keys are integers without padding.
    let bytes = |key: &K| unsafe {
        core::slice::from_raw_parts(core::ptr::from_ref(key).cast::<u8>(), size_of::<K>()).to_vec()
    };
    let (one, other) = (bytes(one), bytes(other));
    let differing = one.iter().zip(&other).map(|(one, other)| one ^ other);
    let common = differing.scan(true, |go_on, byte| {
        let counted = go_on.then(|| byte.leading_zeros());
        *go_on &= byte == 0;
        counted
    });
    common.sum::<u32>() >= length
}

/// Keys of tries.
pub mod lpm_trie {
    /// A prefix.
    #[repr(C, packed)]
    #[derive(Clone, Copy, Debug)]
    pub struct Key<K> {
        /// Its length in bits.
        pub prefix_len: u32,
        /// Its bytes.
        pub data: K,
    }

    impl<K> Key<K> {
        /// A prefix.
        pub const fn new(prefix_len: u32, data: K) -> Self {
            Self { prefix_len, data }
        }
    }
}

/// Programs, which are run by their index: see [`crate::machine`].
#[derive(Debug)]
pub struct ProgramArray(());

impl ProgramArray {
    /// An array.
    #[must_use]
    pub const fn with_max_entries(_entries: u32, _flags: u32) -> Self {
        Self(())
    }
}

/// A ring that nobody reads.
#[derive(Debug)]
pub struct RingBuf(());

impl RingBuf {
    /// A ring.
    #[must_use]
    pub const fn with_byte_size(_bytes: u32, _flags: u32) -> Self {
        Self(())
    }

    /// Tells of something.
    ///
    /// # Errors
    ///
    /// None.
    pub fn output<T: ?Sized>(&self, _event: impl Borrow<T>, _flags: u64) -> Result<(), i32> {
        Ok(())
    }
}

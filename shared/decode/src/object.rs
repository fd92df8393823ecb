//! One JSON object with a known set of keys: the row itself, or a STRUCT inside it.

use arrow::array::ArrayRef;
use hashbrown::HashMap;

use crate::column::ColumnReader;
use crate::fault::{Fault, Reason, excerpt};
use crate::input::{Input, Quoted};
use crate::text::unescaped;

/// Undeclared keys that are remembered per object, and how long they may be: what is learned from data is bounded.
const MAX_SLOTS: usize = 1024;
const MAX_LEARNED_KEY_BYTES: usize = 64;

/// Reads objects into columns, and learns the order of their keys.
#[derive(Debug)]
pub(crate) struct Object {
    names: Vec<String>,
    columns: Vec<ColumnReader>,
    slots: Vec<Slot>,
    by_key: HashMap<Box<[u8]>, usize>,
    /// The slot of the first key of the object before.
    first: usize,
    scratch: Vec<u8>,
}

/// A key that has a place in the order.
#[derive(Debug)]
struct Slot {
    spelling: Spelling,
    target: Target,
    /// The slot that followed this one last time.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Column(usize),
    /// An undeclared field.
    Skip,
}

impl Object {
    /// An object with these keys and columns.
    pub fn new(columns: impl IntoIterator<Item = (String, ColumnReader)>) -> Self {
        let (names, columns): (Vec<String>, Vec<ColumnReader>) = columns.into_iter().unzip();
        let mut object = Self {
            names: Vec::new(),
            columns,
            slots: Vec::new(),
            by_key: HashMap::new(),
            first: 0,
            scratch: Vec::new(),
        };
        for (index, name) in names.iter().enumerate() {
            // Until an object was seen, the declared order is the best guess.
            object.add_slot(name.as_bytes(), Target::Column(index));
            object.slots[index].next = (index + 1) % names.len();
        }
        object.names = names;
        object
    }

    pub fn columns(&self) -> &[ColumnReader] {
        &self.columns
    }

    pub fn columns_mut(&mut self) -> &mut [ColumnReader] {
        &mut self.columns
    }

    pub fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// Makes room for `rows` more rows out of `bytes` bytes of JSON.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.columns.iter_mut().for_each(|column| column.reserve(rows, bytes));
    }

    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(ColumnReader::finish).collect()
    }

    /// Reads an object, whose `{` is next, as row number `row`. Columns whose key is absent are not touched; the number of the
    /// others is returned. A key that comes twice counts with its last value. After a fault, the row must be taken back.
    #[inline]
    pub fn read(&mut self, input: &mut Input<'_>, row: usize) -> Result<usize, Fault> {
        input.at += 1;
        input.skip_space();
        if input.eat(b'}') {
            return Ok(0);
        }
        let mut present = 0;
        let mut previous = None;
        let mut guess = self.first;
        loop {
            let target = match self.guessed(input, guess) {
                Some(slot) => {
                    previous = Some(slot);
                    guess = self.slots[slot].next;
                    self.slots[slot].target
                }
                None => match self.looked_up(input)? {
                    Some(slot) => {
                        match previous {
                            Some(previous) => self.slots[previous].next = slot,
                            None => self.first = slot,
                        }
                        previous = Some(slot);
                        guess = self.slots[slot].next;
                        self.slots[slot].target
                    }
                    None => Target::Skip,
                },
            };
            input.skip_space();
            match target {
                Target::Skip => input.skip_value()?,
                Target::Column(index) => {
                    let column = &mut self.columns[index];
                    if column.len() > row {
                        column.truncate(row);
                    } else {
                        present += 1;
                    }
                    column.read(input).map_err(|fault| fault.in_field(&self.names[index]))?;
                }
            }
            input.skip_space();
            match input.peek() {
                b',' => input.at += 1,
                b'}' => {
                    input.at += 1;
                    return Ok(present);
                }
                _ => return Err(input.malformed("expected `,` or `}`")),
            }
            input.skip_space();
        }
    }

    /// Consumes `"key":` if it is the guessed slot's, or that of the slot after it (one optional field was left out).
    #[inline(always)]
    fn guessed(&self, input: &mut Input<'_>, guess: usize) -> Option<usize> {
        let slot = self.slots.get(guess)?;
        if slot.spelling.eat(input) {
            return Some(guess);
        }
        let after = slot.next;
        self.slots[after].spelling.eat(input).then_some(after)
    }

    /// Consumes any `"key" :`, and finds its slot; a new key gets one, while there is room.
    #[inline(never)]
    fn looked_up(&mut self, input: &mut Input<'_>) -> Result<Option<usize>, Fault> {
        if input.peek() != b'"' {
            return Err(input.malformed("expected a key in double quotes"));
        }
        let quoted: Quoted<'_> = input.quoted()?;
        input.skip_space();
        if !input.eat(b':') {
            return Err(input.malformed("expected `:`"));
        }
        let Ok(key) = unescaped(quoted, &mut self.scratch) else {
            // No column is called so, and that is all that matters of an undeclared key.
            return Ok(None);
        };
        if let Some(slot) = self.by_key.get(key) {
            return Ok(Some(*slot));
        }
        if self.slots.len() >= MAX_SLOTS || key.len() > MAX_LEARNED_KEY_BYTES {
            return Ok(None);
        }
        let key: Box<[u8]> = key.into();
        Ok(Some(self.add_slot(&key, Target::Skip)))
    }

    fn add_slot(&mut self, key: &[u8], target: Target) -> usize {
        let slot = self.slots.len();
        self.slots.push(Slot {
            spelling: Spelling::new(key),
            target,
            next: slot,
        });
        self.by_key.insert(key.into(), slot);
        slot
    }

    /// The fault of a NOT NULL column.
    #[cold]
    pub fn missing(&self, column: usize, found: &'static str) -> Fault {
        Reason::missing(found).in_field(&excerpt(self.names[column].as_bytes()))
    }
}

/// `"key":` in a form that is compared by words. Two loads, which overlap for keys of 8 to 16 bytes, see all of it unless it
/// is longer.
#[derive(Debug)]
struct Spelling {
    text: Box<[u8]>,
    head: u64,
    tail: u64,
    /// Which bits of `head` count, for a spelling below 8 bytes.
    mask: u64,
    tail_at: usize,
}

impl Spelling {
    fn new(key: &[u8]) -> Self {
        let mut text = Vec::with_capacity(key.len() + 3);
        text.push(b'"');
        text.extend_from_slice(key);
        text.extend_from_slice(b"\":");
        if key.iter().any(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)) {
            // JSON spells such a key with escapes: it is always looked up. 0xff is in no UTF-8 text.
            text = vec![0xff; 8];
        }
        let word = |from: usize| {
            let mut bytes = [0; 8];
            let end = text.len().min(from + 8);
            bytes[..end - from].copy_from_slice(&text[from..end]);
            u64::from_le_bytes(bytes)
        };
        let tail_at = text.len().saturating_sub(8);
        let mask = if text.len() < 8 {
            (1 << (8 * text.len())) - 1
        } else {
            u64::MAX
        };
        Self {
            head: word(0),
            tail: word(tail_at),
            mask,
            tail_at,
            text: text.into(),
        }
    }

    /// Consumes the spelling, if it is next. May overlook it near the end of the buffer.
    #[inline(always)]
    fn eat(&self, input: &mut Input<'_>) -> bool {
        let (Some(head), Some(tail)) = (input.word(0), input.word(self.tail_at)) else {
            return false;
        };
        let same = (head ^ self.head | tail ^ self.tail) & self.mask == 0
            && (self.text.len() <= 16 || input.rest().starts_with(&self.text));
        if same {
            input.at += self.text.len();
        }
        same
    }
}

//! Somebody who changes `views.sql` while everything runs, and applies it: by command, or by starting a service that reads
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::{DefinitionEntry, Store};
use anabranch_definitions::{Definitions, Error, Options, apply, settle};
use anabranch_model::ErrorKind;
use anabranch_serving::simulation::Answer;
use parking_lot::Mutex;

use crate::definitions::{Edition, version};
use crate::scheduler::Micros;
use crate::world::World;

/// Wait before something that the store kept from being done is tried again.
const AGAIN: Duration = Duration::from_millis(400);

/// The file that all services of a run read when they start, and what became of it.
#[derive(Debug)]
pub struct Editing {
    state: Mutex<State>,
    expires: bool,
}

#[derive(Debug)]
struct State {
    file: Edition,
    /// Every text that was ever in the file.
    texts: Vec<(String, Edition)>,
    /// (serving process, view) → the last entry that had the version which it answered by, and since when.
    answered: BTreeMap<(usize, String), (u64, Micros)>,
}

impl Editing {
    pub fn new(expires: bool) -> Self {
        let file = Edition::FIRST;
        Self {
            state: Mutex::new(State {
                file,
                texts: vec![(file.sql(expires), file)],
                answered: BTreeMap::new(),
            }),
            expires,
        }
    }

    fn text(&self) -> String {
        self.state.lock().file.sql(self.expires)
    }

    /// Puts another text into the file; says whether it was there before.
    fn edit(&self, edition: Edition) -> bool {
        let mut state = self.state.lock();
        state.file = edition;
        let known = state.texts.iter().any(|(_, known)| *known == edition);
        if !known {
            state.texts.push((edition.sql(self.expires), edition));
        }
        known
    }

    fn edition(&self, sql: &str) -> Option<Edition> {
        let state = self.state.lock();
        let mut texts = state.texts.iter();
        texts.find(|(text, _)| text == sql).map(|(_, edition)| *edition)
    }

    /// A serving process that starts may answer by an older version again.
    pub fn forget(&self, slot: usize) {
        self.state.lock().answered.retain(|(of, _), _| *of != slot);
    }
}

/// What a service that starts is to run: its file, unless somebody has applied something newer. As long as the store does
/// not answer, it tries again.
pub async fn starting(world: &World, store: &Store, name: &str) -> Option<Arc<Definitions>> {
    let Some(editing) = &world.editing else {
        return Some(Arc::clone(&world.fixture.definitions));
    };
    loop {
        match settle(store, &editing.text(), name).await {
            Ok(settled) => return Some(settled.definitions),
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            // What it read was replaced meanwhile, by what has more columns.
            Err(Error::Refused { .. }) => world.happened("starts with definitions that were refused"),
            Err(error) => {
                world.violation(format!("{name} cannot start with its definitions: {error}"));
                return None;
            }
        }
        store.environment().sleep(AGAIN).await;
    }
}

/// Edits and applies until the world settles. `store` takes time and fails, as it does for services.
pub async fn work(world: Arc<World>, store: Store) {
    loop {
        let wait = world.scheduler.draw(|random| random.within(2_000_000..11_000_000));
        world.scheduler.sleep_micros(wait).await;
        let Some(editing) = world.editing.as_ref().filter(|_| !world.is_settling()) else {
            return;
        };
        let (file, expires) = (editing.state.lock().file, editing.expires);
        if world.scheduler.draw(|random| random.chance(80)) {
            refuse(&world, &store, &file.refused_sql(expires)).await;
            continue;
        }
        let next = world.scheduler.draw(|random| file.changed(random));
        let known = editing.edit(next);
        if !known && world.scheduler.draw(|random| random.chance(250)) {
            world.happened("definitions changed for the next start");
            let slots = world.slots.lock().len();
            let index = world.scheduler.draw(|random| random.index(slots));
            world.crash(index);
            continue;
        }
        command(&world, &store, &next.sql(expires), known).await;
    }
}

/// `anabranch views apply`, until it has an answer.
async fn command(world: &World, store: &Store, sql: &str, known: bool) {
    let mut options = Options::default();
    while !world.is_settling() {
        match apply(store, sql, "somebody", options).await {
            Ok(_) => return world.happened("definitions applied by command"),
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(Error::Stale { .. }) if known && !options.force => {
                world.happened("definitions that somebody went back to");
                options.force = true;
                continue;
            }
            Err(error) => return world.violation(format!("definitions cannot be applied: {error}")),
        }
        store.environment().sleep(AGAIN).await;
    }
}

async fn refuse(world: &World, store: &Store, sql: &str) {
    match apply(store, sql, "somebody", Options::default()).await {
        Ok(_) => world.violation("a column's type was changed".to_owned()),
        Err(Error::Refused { .. }) => world.happened("definitions refused"),
        Err(error) if error.kind() == ErrorKind::Unavailable => {}
        Err(error) => world.violation(format!("definitions are refused for another reason: {error}")),
    }
}

/// Whether every view of an answer is answered by a version that was declared, and, once the process is ready, none by an
/// older one than in answers that were there before this one was asked for.
///
/// # Errors
/// What is wrong with it.
pub fn check(world: &World, answer: &Answer, slot: usize, asked: Micros) -> Result<(), String> {
    let entries = entries(world, answer.definitions)?;
    let newest = entries.last().map_or(Edition::FIRST, |(_, edition)| *edition);
    let (declared, answered) = (newest.views(), &answer.versions);
    if !declared.keys().copied().eq(answered.keys().map(String::as_str)) {
        return Err(format!(
            "definitions {} declare {:?}, and what answers is {answered:?}",
            answer.definitions,
            declared.keys()
        ));
    }
    let Some(editing) = &world.editing else {
        return Ok(());
    };
    for (name, hash) in answered {
        let fold = version(name, hash).map(|version| version.fold);
        let declares =
            |(_, edition): &&(u64, Edition)| fold.is_some_and(|fold| edition.views().get(name.as_str()) == Some(&fold));
        let Some((last, _)) = entries.iter().rev().find(declares) else {
            return Err(format!("{name} answers by {hash}, which nobody has declared"));
        };
        let (last, now) = (*last, world.scheduler.now());
        if !answer.is_ready {
            continue;
        }
        let mut state = editing.state.lock();
        let (before, since) = *state.answered.entry((slot, name.clone())).or_insert((last, now));
        if before > last && since <= asked {
            return Err(format!(
                "{name} answers by definitions {last}, after it has answered by definitions {before}"
            ));
        }
        if before < last {
            state.answered.insert((slot, name.clone()), (last, now));
        }
        if declared.get(name.as_str()).copied() != fold {
            world.happened("answers by a version that is being replaced");
        }
    }
    Ok(())
}

/// Entries of the definitions log up to one of them.
fn entries(world: &World, until: u64) -> Result<Vec<(u64, Edition)>, String> {
    let Some(editing) = &world.editing else {
        return Ok(Vec::new());
    };
    let audit = world.server.audit.lock();
    let known: Vec<&DefinitionEntry> = audit.definitions.iter().filter(|entry| entry.number <= until).collect();
    if known.last().map(|entry| entry.number) != Some(until) {
        return Err(format!("an answer names definitions {until}, which nobody has applied"));
    }
    let edition = |entry: &&DefinitionEntry| {
        let edition = editing.edition(&entry.sql);
        let edition = edition.ok_or_else(|| format!("definitions {} are what was refused", entry.number))?;
        Ok((entry.number, edition))
    };
    known.iter().map(edition).collect()
}

/// The newest definitions, and their number; 0 where none are ever applied.
///
/// # Errors
/// When they are not what anybody applied.
pub fn newest(world: &World) -> Result<(u64, Edition), String> {
    let last = world.server.audit.lock().definitions.last().map(|entry| entry.number);
    match last {
        None => Ok((0, Edition::FIRST)),
        Some(last) => Ok(entries(world, last)?.pop().unwrap_or((0, Edition::FIRST))),
    }
}

/// What keeps versions from being those of the newest definitions. `versions` are by view.
///
/// # Errors
/// As [`newest`].
pub fn pending(world: &World, versions: &BTreeMap<String, String>) -> Result<Option<String>, String> {
    let (number, edition) = newest(world)?;
    let found: BTreeMap<&str, _> = versions
        .iter()
        .map(|(name, hash)| (name.as_str(), version(name, hash).map(|version| version.fold)))
        .collect();
    let wanted: BTreeMap<&str, _> = edition
        .views()
        .into_iter()
        .map(|(name, fold)| (name, Some(fold)))
        .collect();
    Ok((found != wanted).then(|| format!("{found:?} instead of {wanted:?}, which definitions {number} declare")))
}

//! docs/guarantees.md and the other pages name the tests that hold what they say; they are there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use anabranch_e2e::data::workspace;

/// Fewer names than this, and the page was not read properly.
const AT_LEAST: usize = 60;

/// All tests of the repository.
static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut known = BTreeSet::new();
    tests_below(&workspace(), &mut known);
    known
});

/// Names of all test functions below a folder: of functions that an attribute with `test` in it stands before.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                tests_below(&path, names);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file is text");
            names.extend(tests_of(&text));
        }
    }
}

fn tests_of(text: &str) -> Vec<String> {
    let (mut found, mut marked) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked) {
            let end = rest
                .find(|c: char| c != '_' && !c.is_alphanumeric())
                .unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
            marked = false;
        }
    }
    found
}

/// What stands between backticks and is spelt as the name of a test: at least so many words of small letters, no metric.
fn named_tests(page: &str, words: usize) -> BTreeSet<String> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_name = |text: &&str| {
        text.matches('_').count() >= words - 1
            && !text.starts_with("anabranch_")
            && text
                .chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    quoted.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_guarantees_name_is_there() {
    let page = std::fs::read_to_string(workspace().join("docs/guarantees.md")).expect("the page is there");
    let named = named_tests(&page, 3);
    assert!(
        named.len() >= AT_LEAST,
        "only {} tests are named: {named:?}",
        named.len()
    );
    let absent: Vec<_> = named.difference(&KNOWN).collect();
    assert!(
        absent.is_empty(),
        "docs/guarantees.md names tests that are not there: {absent:?}"
    );
}

#[test]
fn every_test_that_another_page_names_is_there() {
    let docs = std::fs::read_dir(workspace().join("docs")).expect("docs/ is there");
    let pages = docs.map(|entry| entry.expect("docs/ can be read").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let others = ["README.md", "ARCHITECTURE.md"].map(|name| workspace().join(name));
    let mut seen = 0;
    for page in pages.chain(others) {
        let text = std::fs::read_to_string(&page).expect("a page is text");
        // Settings have up to four words.
        let named = named_tests(&text, 5);
        seen += named.len();
        let absent: Vec<_> = named.difference(&KNOWN).collect();
        assert!(
            absent.is_empty(),
            "{} names tests that are not there: {absent:?}",
            page.display()
        );
    }
    assert!(seen > 80, "only {seen} tests are named");
}

#[test]
fn names_are_told_from_other_words() {
    let page = "`a_test_of_this` and `on_gap`, `anabranch_source_connected`, `[speed] state_budget`, `another_one_2`";
    assert_eq!(
        named_tests(page, 3).into_iter().collect::<Vec<_>>(),
        ["a_test_of_this", "another_one_2"]
    );
    assert_eq!(named_tests(page, 4).into_iter().collect::<Vec<_>>(), ["a_test_of_this"]);
    let code =
        "#[test]\n#[ignore]\nfn one() {}\nfn helper() {}\n    #[tokio::test(flavor = \"x\")]\n    async fn two() {}\n";
    assert_eq!(tests_of(code), ["one", "two"]);
}

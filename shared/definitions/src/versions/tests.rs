use super::*;

const TABLE: &str = "CREATE TABLE t (a TEXT, n BIGINT) WITH (connector = 'log');";

fn definitions(number: u64, views: &[(&str, &str)]) -> Definitions {
    let view = |(name, select): &(&str, &str)| format!("CREATE MATERIALIZED VIEW {name} AS SELECT {select} FROM t;");
    let sql = format!("{TABLE}{}", views.iter().map(view).collect::<String>());
    Definitions::compile(number, &sql).unwrap()
}

fn hash(definitions: &Definitions, name: &str) -> String {
    definitions.view(name).unwrap().hash().clone()
}

#[test]
fn a_published_version_answers_until_the_new_one_is_published() {
    let one = definitions(1, &[("v", "count(*) AS n"), ("w", "sum(n) AS s")]);
    let two = definitions(2, &[("v", "max(n) AS n"), ("w", "sum(n) AS s")]);
    let three = definitions(3, &[("v", "min(n) AS n"), ("w", "sum(n) AS s"), ("x", "avg(n) AS a")]);
    let published =
        |of: &Definitions| BTreeMap::from([("v".to_owned(), hash(of, "v")), ("w".to_owned(), hash(of, "w"))]);
    let versions = |published: &BTreeMap<_, _>| -> Vec<String> {
        let found = shadows(&three, [&two, &one], published);
        found.iter().map(|view| view.hash().clone()).collect()
    };
    assert_eq!(versions(&published(&one)), [hash(&one, "v")], "two was never published");
    assert_eq!(versions(&published(&two)), [hash(&two, "v")]);
    assert!(versions(&published(&three)).is_empty());
    assert_eq!(
        versions(&BTreeMap::new()),
        [hash(&two, "v")],
        "without a publication the version before answers; w is the same, x is new"
    );
}

#[test]
fn a_view_that_was_dropped_in_between_begins_anew() {
    let one = definitions(1, &[("v", "count(*) AS n")]);
    let two = definitions(2, &[("w", "sum(n) AS s")]);
    let three = definitions(3, &[("v", "max(n) AS n")]);
    let published = BTreeMap::from([("v".to_owned(), hash(&one, "v"))]);
    assert!(shadows(&three, [&two, &one], &published).is_empty());
}

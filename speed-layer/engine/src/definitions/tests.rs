use super::*;

const TABLE: &str = "CREATE TABLE t (n BIGINT) WITH (connector = 'log');";

fn definitions(number: u64, views: &[(&str, &str)]) -> Definitions {
    let view =
        |(name, select): &(&str, &str)| format!("CREATE MATERIALIZED VIEW {name} AS SELECT {select} AS x FROM t;");
    let sql = format!("{TABLE}{}", views.iter().map(view).collect::<String>());
    Definitions::compile(number, &sql).unwrap()
}

fn reader(definition: u64, views: &[(&str, &View)]) -> Reader {
    Reader {
        definition,
        views: views
            .iter()
            .map(|(name, view)| ((*name).to_owned(), vec![view.hash().clone()]))
            .collect(),
    }
}

#[test]
fn a_replaced_version_is_kept_until_every_reader_has_moved_on() {
    let (one, two) = (definitions(1, &[("v", "count(*)")]), definitions(2, &[("v", "sum(n)")]));
    let (old, new) = (one.view("v").unwrap(), two.view("v").unwrap());
    let needed = |published: &View, readers: &[Reader]| {
        let published = BTreeMap::from([("v".to_owned(), published.hash().clone())]);
        is_needed(old, &two, &published, readers)
    };
    assert!(
        needed(old, &[reader(1, &[("v", old)])]),
        "it has not heard of the change"
    );
    assert!(
        needed(old, &[reader(2, &[("v", new)]), reader(2, &[("v", old)])]),
        "one still answers by it"
    );
    assert!(
        needed(new, &[reader(2, &[("v", old)])]),
        "it has not adopted the publication yet"
    );
    assert!(
        !needed(old, &[reader(2, &[("v", new)])]),
        "realtime state alone answered the new one"
    );
    assert!(!needed(new, &[reader(2, &[("v", new)])]));
    assert!(
        needed(old, &[]),
        "whoever starts to serve begins with the published version"
    );
    assert!(!needed(new, &[]));
}

#[test]
fn a_dropped_view_is_kept_until_every_reader_has_heard_of_it() {
    let (one, two) = (definitions(1, &[("v", "count(*)")]), definitions(2, &[]));
    let old = one.view("v").unwrap();
    let published = BTreeMap::from([("v".to_owned(), old.hash().clone())]);
    assert!(is_needed(old, &two, &published, &[reader(1, &[])]));
    assert!(!is_needed(old, &two, &published, &[reader(2, &[])]));
    assert!(!is_needed(old, &two, &published, &[]));
}

//! The console in a real browser: every page with real data, on wide and narrow screens, in light and dark; and what its
//! buttons do. `ANABRANCH_SCREENSHOTS=folder` keeps a picture of each page.

use std::time::Duration;

use anabranch_e2e::browser::{Browser, Page, Screen};
use anabranch_e2e::{Dev, Site, data, gate, until};
use serde_json::{Value, json};

const VIEWS: &str = "
CREATE TABLE clicks (time TIMESTAMP NOT NULL, page TEXT NOT NULL, action TEXT, ms BIGINT)
WITH (connector = 'log', event_time = 'time', partitions = 2);
CREATE MATERIALIZED VIEW pages AS
SELECT page, count(*) AS clicks, sum(ms) AS ms, avg(ms) AS mean_ms FROM clicks GROUP BY page;
CREATE MATERIALIZED VIEW minutes AS
SELECT tumble(time, INTERVAL '1 minute') AS minute, action, count(*) AS clicks FROM clicks GROUP BY minute, action;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS clicks FROM clicks;
";
const SOON: &str = "[landing]\nmax_age = '200ms'\n[speed]\npublication_poll = '100ms'\n[serving]\npoll = '100ms'";
const WIDE: Screen = Screen {
    width: 1280,
    height: 900,
    dark: false,
};
const NARROW: Screen = Screen {
    width: 375,
    height: 740,
    dark: false,
};

fn clicks(count: usize) -> Vec<u8> {
    let line = |n: usize| {
        json!({
            "time": format!("2026-01-01T00:{:02}:{:02}Z", n / 60 % 60, n % 60),
            "page": format!("/{}", ["home", "cart", "search", "<b>bold</b>"][n % 4]),
            "action": if n.is_multiple_of(2) { "view" } else { "buy" },
            "ms": n % 900,
        })
        .to_string()
    };
    data::ndjson((0..count).map(line).collect::<Vec<_>>())
}

/// A platform that has seen a batch run, events since, and some that do not decode.
fn platform() -> Dev {
    let dev = Dev::start(VIEWS, SOON);
    let mut through = dev.ingest("clicks", clicks(1200));
    let broken = b"{\"time\": \"yesterday\", \"page\": \"/\"}\n<script>alert(1)</script> \xe2\x80\xae\n".to_vec();
    let sent = dev
        .http()
        .post_bytes("/v1/ingest/clicks?on_invalid=dead_letter", broken);
    let sent = sent.expect(200).json();
    for (partition, next) in sent["through"].as_object().expect("it says up to where") {
        through.insert(partition.clone(), next.as_i64().expect("an offset"));
    }
    dev.land_and_run("clicks", &through);
    dev.ingest("clicks", clicks(300));
    dev
}

fn browser(test: &str) -> Option<Browser> {
    match Browser::start() {
        Ok(browser) => Some(browser),
        Err(reason) => {
            gate::skip(test, &reason);
            None
        }
    }
}

/// Where to go, and what must be true there.
fn pages(run: &str) -> Vec<(&'static str, String, String)> {
    let rows = |at_least: usize| format!("document.querySelectorAll('main tbody tr').length >= {at_least}");
    let has = |selector: &str| format!("document.querySelector({})", json!(format!("main {selector}")));
    let page = |name, hash: &str, conditions: &[String]| (name, hash.to_owned(), conditions.join(" && "));
    vec![
        page(
            "overview",
            "#/",
            &[rows(5), has(".spark canvas"), has("a[href='#/dead-letters']")],
        ),
        page(
            "views",
            "#/views",
            &["document.querySelectorAll('.tile').length === 3".to_owned()],
        ),
        page(
            "view-pages",
            "#/views/pages",
            &[
                rows(4),
                has(".bars i.batch"),
                has(".bars i.realtime"),
                has(".axis .cut"),
                has(".livestate.live"),
            ],
        ),
        page(
            "view-minutes",
            "#/views/minutes",
            &[rows(20), has(".plot canvas"), has(".axis .realtime")],
        ),
        page(
            "view-totals",
            "#/views/totals",
            &[rows(1), has(".bars"), has(".livestate.live")],
        ),
        page("runs", "#/runs", &[rows(1), has(".timeline .run.published")]),
        page("run", &format!("#/runs/{run}"), &[has(".phases"), rows(2)]),
        page(
            "topology",
            "#/topology",
            &["document.querySelectorAll('.node').length === 5".to_owned(), rows(4)],
        ),
        page(
            "query",
            "#/query?sql=SELECT%20page%2C%20clicks%20FROM%20pages%20ORDER%20BY%20clicks%20DESC",
            &[
                rows(4),
                has(".coverage .badge.good"),
                "document.querySelector('.editor').shadowRoot.querySelector('.tok-keyword')".to_owned(),
            ],
        ),
        page("dead-letters", "#/dead-letters", &[rows(2), has(".bars")]),
    ]
}

#[test]
fn every_page_shows_what_there_is() {
    let _gate = gate::heavy();
    let Some(browser) = browser("every_page_shows_what_there_is") else {
        return;
    };
    let dev = platform();
    let base = dev.http().base().to_owned();
    let run = dev.http().get("/v1/batch/runs?limit=1").expect(200).json()["runs"][0]["run_id"].clone();
    let run = run.as_str().expect("a run has an id").to_owned();
    let tab = browser.open(WIDE);
    tab.go(&format!("{base}/"));
    tab.until("document.querySelector('main h1')");
    let dark = |screen: Screen| Screen { dark: true, ..screen };
    let phone = Screen { width: 320, ..NARROW };
    for screen in [WIDE, dark(WIDE), NARROW, dark(NARROW), phone] {
        tab.resize(screen);
        for (name, hash, condition) in pages(&run) {
            tab.eval(&format!("location.hash = {}", json!(hash)));
            tab.until(&condition);
            let what = format!("{name} at {screen:?}");
            assert_eq!(
                tab.eval("document.querySelectorAll('.note.bad').length"),
                0,
                "{what}: {}",
                text(&tab)
            );
            let widest = tab.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(widest, 0, "{what} is wider than its screen by so much");
            assert_eq!(tab.eval("document.querySelectorAll('main h1').length"), 1, "{what}");
            let unnamed = "[...document.querySelectorAll('button, a, input, select')].filter((e) => !(e.textContent.trim() || e.ariaLabel || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)";
            assert_eq!(tab.eval(unnamed), json!([]), "{what}: controls have names");
            keep(&tab, name, screen);
        }
    }
    assert_eq!(tab.complaints(&base), Vec::<String>::new());
}

#[test]
fn buttons_do_what_they_say() {
    let _gate = gate::heavy();
    let Some(browser) = browser("buttons_do_what_they_say") else {
        return;
    };
    let dev = platform();
    let base = dev.http().base().to_owned();
    let tab = browser.open(WIDE);

    // The live table follows, and shows what SQL answers.
    tab.go(&format!("{base}/#/views/pages"));
    tab.until("document.querySelector('.livestate.live') && document.querySelectorAll('.tall tbody tr').length === 4");
    let through = dev.ingest("clicks", clicks(40));
    let home = &dev.query_at_least("SELECT clicks FROM pages WHERE page = '/home'", &through);
    let clicks_at_home = home.integers()[0];
    let cell = format!(
        "[...document.querySelectorAll('.tall tbody tr')].some((tr) => tr.cells[0].textContent === '/home' && tr.cells[1].textContent === ({clicks_at_home}).toLocaleString('en'))"
    );
    tab.until(&cell);
    // What is markup in an event is text here.
    tab.until("[...document.querySelectorAll('.tall tbody td')].some((td) => td.textContent === '/<b>bold</b>')");
    assert_eq!(
        tab.eval("document.querySelectorAll('main td b b, main td script').length"),
        0
    );
    tab.eval("(document.querySelector('.filter input').value = 'clicks.gt=1&page=/cart', document.querySelector('.filter').requestSubmit())");
    tab.until("document.querySelectorAll('.tall tbody tr').length === 1");

    // By keys alone: to the query page, and run what is there.
    tab.eval("document.activeElement.blur()");
    tab.press("g");
    tab.press("q");
    tab.until("location.hash === '#/query' && document.querySelector('.editor')?.shadowRoot");
    tab.eval("document.querySelector('.primary').focus()");
    tab.press("Enter");
    tab.until("document.querySelector('main .card h2')?.textContent.includes('row')");
    tab.eval("document.activeElement.blur()");
    tab.press("?");
    tab.until("document.querySelector('dialog[open] kbd')");
    tab.press("Escape");
    tab.until("!document.querySelector('dialog')");

    // A run, started and published.
    let before = dev.status()["publication"]["number"].clone();
    tab.eval("location.hash = '#/runs'");
    tab.until("document.querySelectorAll('main tbody tr').length === 1");
    click(&tab, "Start a run");
    tab.until("document.querySelector('dialog[open]')");
    click(&tab, "Start");
    tab.until("document.querySelectorAll('main .badge.good').length && [...document.querySelectorAll('main tbody tr')].filter((tr) => tr.cells[1].textContent === 'published').length === 2");
    let publication = |dev: &Dev| dev.status()["publication"]["number"].clone();
    until("the run is served", Duration::from_secs(60), || {
        (publication(&dev) != before).then_some(())
    });
    // And back to the one before.
    tab.until("[...document.querySelectorAll('button')].some((b) => b.textContent === 'Roll back' && !b.disabled)");
    click(&tab, "Roll back");
    tab.until("document.querySelector('dialog[open]')");
    tab.eval("[...document.querySelectorAll('dialog button')].find((b) => b.textContent === 'Roll back').click()");
    tab.until("[...document.querySelectorAll('main tbody tr')].some((tr) => tr.cells[2].textContent.startsWith('rollback') && tr.cells[1].textContent === 'published')");

    // A dead letter is looked at safely, and redriven.
    tab.eval("location.hash = '#/dead-letters'");
    tab.until("document.querySelectorAll('main .preview').length === 2");
    let shown: Value = tab.eval("[...document.querySelectorAll('main .preview')].map((e) => e.textContent).join()");
    let shown = shown.as_str().expect("it is text");
    assert!(shown.contains("<script>") && shown.contains("\\u{202e}"), "{shown}");
    click(&tab, "Look");
    tab.until("document.querySelector('dialog[open] .hex')");
    tab.press("Escape");
    click(&tab, "Redrive");
    tab.until("document.querySelector('dialog[open] #undecodable')");
    tab.eval("document.querySelector('#undecodable').click()");
    tab.eval("[...document.querySelectorAll('dialog button')].find((b) => b.textContent === 'Redrive').click()");
    tab.until("[...document.querySelectorAll('main h2')].some((h) => h.textContent === 'Redrives')");

    // The theme is the reader's, and stays.
    tab.eval("[...document.querySelectorAll('button.quiet')][0].click()");
    tab.until("document.documentElement.dataset.theme === 'light'");
    tab.go(&format!("{base}/?#/views"));
    tab.until("document.querySelector('.tile') && document.documentElement.dataset.theme === 'light'");
    assert_eq!(tab.complaints(&base), Vec::<String>::new());
}

/// Whoever comes without a token sees a form, and nothing else.
#[test]
fn a_token_opens_the_console_and_each_sees_what_is_theirs() {
    let _gate = gate::heavy();
    let Some(browser) = browser("a_token_opens_the_console_and_each_sees_what_is_theirs") else {
        return;
    };
    let site = Site::new(VIEWS, &format!("{SOON}\n[access]\nmode = 'tokens'\nrefresh = '100ms'"));
    let token = |role: &str, views: &str| {
        let made = site.cli(&[
            "token",
            "create",
            "--role",
            role,
            "--name",
            role,
            "--views",
            views,
            "--config",
            site.config(),
        ]);
        made.success().stdout.trim().to_owned()
    };
    let (admin, reader) = (token("admin", "*"), token("read", "*"));
    let narrow = {
        let args = [
            "token",
            "create",
            "--role",
            "read",
            "--name",
            "narrow",
            "--views",
            "pages",
            "--config",
            site.config(),
        ];
        site.cli(&args).success().stdout.trim().to_owned()
    };
    let dev = Dev::at(site);
    let base = dev.http().base().to_owned();
    let (name, url) = (dev.site().file("clicks.ndjson"), ["--url", &base, "--token", &admin]);
    std::fs::write(&name, clicks(300)).expect("the folder can be written to");
    let ingest = ["ingest", "clicks", name.to_str().expect("a plain path")];
    dev.site().cli(&[&ingest[..], &url[..]].concat()).success();
    dev.site().cli(&[&["runs", "start"][..], &url[..]].concat()).success();

    let tab = browser.open(WIDE);
    tab.go(&format!("{base}/#/runs"));
    let form = "document.activeElement?.matches('.login input[type=password]')";
    tab.until(form);
    assert_eq!(tab.eval("document.querySelectorAll('nav, main.login ~ *').length"), 0);
    keep(&tab, "sign-in", WIDE);
    // By keys alone, as the form has the focus. What is wrong is said, and taken back by what is right.
    let enter = |token: &str| {
        tab.eval("document.querySelector('.login input').select()");
        tab.insert(token);
        tab.press("Enter");
    };
    enter("anabranch_nobody");
    tab.until("document.querySelector('.login [role=alert]').textContent.trim()");
    keep(&tab, "sign-in-refused", WIDE);
    enter(&reader);
    let buttons = "[...document.querySelectorAll('main button')].map((b) => b.textContent)";
    tab.until("location.hash === '#/runs' && document.querySelectorAll('main tbody tr').length >= 1");
    assert_eq!(
        tab.eval(buttons),
        json!([]),
        "a reader starts, rolls back and verifies nothing"
    );
    assert_eq!(tab.eval("document.cookie"), "", "scripts cannot read the session");
    let pages = "[...document.querySelectorAll('nav a')].map((a) => a.textContent)";
    assert_eq!(tab.eval(pages), json!(["Overview", "Views", "Runs", "Query"]));
    tab.eval("location.hash = '#/dead-letters'");
    tab.until("document.querySelector('main .note.warn')");
    for hash in [
        "#/",
        "#/views/pages",
        "#/query?sql=SELECT%20page%2C%20clicks%20FROM%20pages",
    ] {
        tab.eval(&format!("location.hash = {}", json!(hash)));
        tab.until("document.querySelectorAll('main tbody tr').length >= 2");
        assert_eq!(
            tab.eval("document.querySelectorAll('.note.bad').length"),
            0,
            "{hash}: {}",
            text(&tab)
        );
        keep(
            &tab,
            &format!(
                "reader-{}",
                hash.split('?').next().unwrap_or(hash).replace(['#', '/'], "")
            ),
            WIDE,
        );
    }

    // Signed out, the session is gone; an administrator sees the rest.
    tab.eval("document.querySelector('button[aria-label=\"Sign out read\"]').click()");
    tab.until(form);
    assert_eq!(tab.eval("fetch('/v1/whoami').then((answer) => answer.status)"), 401);
    enter(&admin);
    tab.eval("location.hash = '#/runs'");
    tab.until("[...document.querySelectorAll('main button')].some((b) => b.textContent === 'Roll back')");
    assert_eq!(tab.eval(&format!("{pages}.length")), 6);
    tab.eval("document.querySelector('button[aria-label=\"Sign out admin\"]').click()");
    tab.until(form);

    // Who may see one view sees neither the other nor what tells of it.
    tab.resize(NARROW);
    enter(&narrow);
    tab.until("document.querySelector('nav a')");
    assert_eq!(tab.eval(pages), json!(["Overview", "Views", "Query"]));
    tab.eval("location.hash = '#/'");
    tab.until("document.querySelectorAll('main tbody tr').length >= 2 && document.querySelectorAll('main .card').length === 1");
    tab.eval("location.hash = '#/views'");
    tab.until("document.querySelectorAll('.tile').length === 1");
    keep(&tab, "narrow-views", NARROW);
    let complaints = tab.complaints(&base);
    let unexpected: Vec<_> = complaints
        .iter()
        .filter(|complaint| !complaint.contains("status of 401"))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

/// What the table shows leaves as a file, with all rows.
#[test]
fn results_are_downloaded_as_csv() {
    let _gate = gate::heavy();
    let Some(browser) = browser("results_are_downloaded_as_csv") else {
        return;
    };
    let dev = Dev::start(VIEWS, SOON);
    let through = dev.ingest("clicks", clicks(120));
    let sql = "SELECT page, clicks, mean_ms FROM pages ORDER BY page";
    dev.query_at_least(sql, &through);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let tab = browser.open(WIDE);
    tab.downloads_to(folder.path());
    let base = dev.http().base().to_owned();
    tab.go(&format!("{base}/#/query"));
    // Typed and run without a mouse: the page's filter or editor is at `/`.
    tab.until("document.querySelector('.editor')?.shadowRoot?.querySelector('.cm-content')");
    tab.eval("document.activeElement.blur()");
    tab.press("/");
    tab.until("document.querySelector('.editor').shadowRoot.activeElement");
    // What is there goes first: a browser that replaces text keeps its style, which the page's policy forbids.
    tab.chord("a");
    tab.press("Backspace");
    tab.insert(sql);
    tab.chord("Enter");
    tab.until("document.querySelectorAll('main tbody tr').length === 4");
    keep(&tab, "query-typed", WIDE);
    click(&tab, "CSV");
    let file = folder.path().join("anabranch.csv");
    let text = until("the file is there", Duration::from_secs(60), || {
        std::fs::read_to_string(&file).ok()
    });
    let answer = dev.http().sql_as(&json!({"sql": sql}), "text/csv").expect(200).text();
    assert_eq!(text, answer);
    assert!(
        text.starts_with("page,clicks,mean_ms") && text.lines().count() == 5,
        "{text}"
    );
    assert_eq!(tab.complaints(&base), Vec::<String>::new());
}

/// Another definition under the same name, and none: both end a live stream, and it says which it was.
#[test]
fn live_streams_end_when_their_view_changes_or_goes() {
    let _gate = gate::heavy();
    let dev = Dev::start(VIEWS, SOON);
    let through = dev.ingest("clicks", clicks(100));
    dev.land_and_run("clicks", &through);
    let follow = |view: &str| {
        let (http, path) = (
            dev.http().within(Duration::from_secs(120)),
            format!("/v1/views/{view}/live"),
        );
        // Answers once the stream has ended.
        std::thread::spawn(move || http.get(&path).expect(200).text())
    };
    let (dropped, changed) = (follow("totals"), follow("pages"));
    until("both are followed", Duration::from_secs(60), || {
        let metrics = dev.http().get("/metrics").expect(200).text();
        metrics.contains("anabranch_serving_live_readers 2").then_some(())
    });
    let views = VIEWS
        .replace(
            "CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS clicks FROM clicks;",
            "",
        )
        .replace("avg(ms) AS mean_ms", "max(ms) AS longest_ms");
    dev.http().post_bytes("/v1/views/apply", views.into_bytes()).expect(200);
    for (stream, reason) in [(dropped, "view_dropped"), (changed, "view_changed")] {
        let text = stream.join().expect("the stream was read to its end");
        assert!(text.contains("event: snapshot\nid: "), "{text}");
        let end = text.rsplit("event: ").next().expect("there are events");
        assert!(end.starts_with("end\n") && end.contains(reason), "{end}");
    }
}

fn click(tab: &Page<'_>, text: &str) {
    let found = tab.eval(&format!(
        "(() => {{ const b = [...document.querySelectorAll('dialog[open] button, main button')].filter((b) => !b.disabled).sort((a, b) => !!b.closest('dialog') - !!a.closest('dialog')).find((b) => b.textContent === {}); b?.click(); return Boolean(b); }})()",
        json!(text)
    ));
    assert_eq!(found, true, "there is a button {text:?}: {}", self::text(tab));
}

fn text(tab: &Page<'_>) -> String {
    tab.eval("document.body.innerText").to_string()
}

fn keep(tab: &Page<'_>, name: &str, screen: Screen) {
    let Ok(folder) = std::env::var("ANABRANCH_SCREENSHOTS") else {
        return;
    };
    let scheme = if screen.dark { "dark" } else { "light" };
    let file = format!("{folder}/{name}-{}-{scheme}.png", screen.width);
    std::fs::write(file, tab.screenshot()).expect("the folder for screenshots can be written to");
}

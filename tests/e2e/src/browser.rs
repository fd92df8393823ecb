//! A headless Chromium, driven by its DevTools protocol over pipes: looks at pages as a person's browser does.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::runtime::until;

/// Names of the program, the first that there is. `$ANABRANCH_CHROMIUM` comes before all.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// Longest that the browser may take for one command.
const COMMAND: Duration = Duration::from_secs(60);
/// Longest that a page may take to become what a test waits for.
const PAGE: Duration = Duration::from_secs(60);

/// A running browser. Killed when dropped.
pub struct Browser {
    child: Child,
    commands: RefCell<ChildStdin>,
    messages: Receiver<Value>,
    events: RefCell<Vec<Value>>,
    last: Cell<u64>,
    _profile: tempfile::TempDir,
}

/// What the reader's screen is like.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

/// One tab.
pub struct Page<'b> {
    browser: &'b Browser,
    session: String,
}

impl Browser {
    /// Starts one. No name but the loopback address resolves in it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start() -> Result<Self, String> {
        let program = program().ok_or("Chromium is not installed (Debian: apt-get install chromium)")?;
        let profile = tempfile::tempdir().map_err(|error| error.to_string())?;
        // The protocol is spoken on descriptors 3 and 4; a shell can put ours there.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(program)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-default-apps",
                "--disable-extensions",
                "--disable-sync",
                "--hide-scrollbars",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let commands = RefCell::new(child.stdin.take().expect("it is piped"));
        let answers = child.stdout.take().expect("it is piped");
        let (send, messages) = channel();
        std::thread::spawn(move || {
            let mut answers = BufReader::new(answers);
            let mut message = Vec::new();
            // Ends with the browser.
            while answers.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let parsed = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if send.send(parsed).is_err() {
                    break;
                }
                message.clear();
            }
        });
        Ok(Self {
            child,
            commands,
            messages,
            events: RefCell::default(),
            last: Cell::new(0),
            _profile: profile,
        })
    }

    /// Opens an empty tab.
    pub fn open(&self, screen: Screen) -> Page<'_> {
        let target = self.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call(None, "Target.attachToTarget", attach)["sessionId"]
            .as_str()
            .expect("a session has an id")
            .to_owned();
        let page = Page { browser: self, session };
        for domain in ["Runtime", "Log", "Network", "Page"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.resize(screen);
        page
    }

    fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.last.get() + 1;
        self.last.set(id);
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands
            .borrow_mut()
            .write_all(&bytes)
            .expect("the browser listens");
        let deadline = Instant::now() + COMMAND;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(mut answer) if answer["id"] == id => {
                    assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                    return answer["result"].take();
                }
                Ok(event) => self.events.borrow_mut().push(event),
                Err(RecvTimeoutError::Timeout) => panic!("{method}: no answer within {COMMAND:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("{method}: the browser has ended"),
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked first, so that its helper processes end with it.
        let quit = json!({"id": 0, "method": "Browser.close"}).to_string() + "\0";
        let _ = self.commands.borrow_mut().write_all(quit.as_bytes());
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page<'_> {
    fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// Changes the size of the screen and its color scheme.
    pub fn resize(&self, screen: Screen) {
        let size = json!({
            "width": screen.width, "height": screen.height, "deviceScaleFactor": 1, "mobile": screen.width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if screen.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Goes to an address.
    pub fn go(&self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url}));
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
    }

    /// What an expression is, after its promise if it is one.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&self, expression: &str) {
        until(expression, PAGE, || {
            (self.eval(&format!("Boolean({expression})")) == true).then_some(())
        });
    }

    /// Presses a key as a person does. `key` is as in `KeyboardEvent.key`.
    pub fn press(&self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        let code = match key {
            "Backspace" => 8,
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { text };
        for kind in ["keyDown", "keyUp"] {
            let params = json!({"type": kind, "key": key, "code": key, "text": if kind == "keyDown" { text } else { "" }, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Presses a key together with Control.
    pub fn chord(&self, key: &str) {
        let code = match key {
            "Enter" => 13,
            key => key
                .bytes()
                .next()
                .map_or(0, |byte| u32::from(byte.to_ascii_uppercase())),
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let params = json!({"type": kind, "key": key, "modifiers": 2, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Writes text where the focus is, as if it were pasted.
    pub fn insert(&self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Keeps what pages of this browser download in a folder.
    pub fn downloads_to(&self, folder: &Path) {
        let params = json!({"behavior": "allow", "downloadPath": folder.display().to_string()});
        self.browser.call(None, "Browser.setDownloadBehavior", params);
    }

    /// The whole page as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].take();
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let params = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.call("Page.captureScreenshot", params);
        let data = shot["data"].as_str().expect("a screenshot is there");
        BASE64_STANDARD.decode(data).expect("it is base64")
    }

    /// What went wrong since the browser started, in any tab: errors on the console, exceptions, and requests to anybody but `host`.
    pub fn complaints(&self, host: &str) -> Vec<String> {
        // An answer to a command comes after the events before it.
        self.eval("0");
        let events = self.browser.events.borrow();
        events.iter().filter_map(|event| complaint(event, host)).collect()
    }
}

fn complaint(event: &Value, host: &str) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) => {
            Some(params["args"].to_string())
        }
        "Log.entryAdded" if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) => {
            Some(params["entry"].to_string())
        }
        "Network.requestWillBeSent" => {
            let url = params["request"]["url"].as_str()?;
            let is_own = ["data:", "blob:", "about:"].iter().any(|own| url.starts_with(own)) || url.starts_with(host);
            (!is_own).then(|| format!("a request to {url}"))
        }
        _ => None,
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ANABRANCH_CHROMIUM") {
        return Some(named.into());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let mut places = PROGRAMS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.find(|place| place.is_file())
}

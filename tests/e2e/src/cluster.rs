//! Many processes on one store and one log: several `speed`, `batch` and `serve`, each with a folder and ports of its own.

use std::path::Path;

use crate::http::Http;
use crate::process::Process;
use crate::site::Site;

/// One service of a cluster, whether its process runs or not.
#[derive(Debug)]
pub struct Member {
    service: &'static str,
    site: Site,
    process: Option<Process>,
    frozen: bool,
}

impl Member {
    fn new(service: &'static str, views_sql: &str, settings: &str) -> Self {
        Self {
            service,
            site: Site::new(views_sql, settings),
            process: None,
            frozen: false,
        }
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The HTTP API, if this is a `serve`.
    pub fn http(&self) -> Http {
        self.site.http()
    }

    /// Whether its process stands still.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// # Panics
    /// While it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the service was started")
    }

    /// Starts it without waiting for it.
    pub fn spawn(&mut self) {
        self.frozen = false;
        self.process = Some(self.site.spawn(self.service));
    }

    /// Waits until it is ready.
    pub fn ready(&mut self) {
        let process = self.process.as_mut().expect("the service was started");
        self.site.ready(self.service, process);
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        self.process().kill9();
        self.process = None;
        self.frozen = false;
    }

    /// SIGTERM, waits for the end, starts it again, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn restart(&mut self) {
        let process = self.process();
        let status = process.terminate();
        assert!(status.success(), "a service ended with {status}\n{}", process.tail());
        self.spawn();
        self.ready();
    }

    /// SIGSTOP.
    pub fn freeze(&mut self) {
        self.process().freeze();
        self.frozen = true;
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.process().thaw();
        self.frozen = false;
    }

    /// Starts the process again if it has ended, as a supervisor would; says how it ended if nobody had killed it: in the
    /// first line the status and the last word, then the end of its log.
    pub fn supervise(&mut self) -> Option<String> {
        let ended = match &mut self.process {
            None => None,
            Some(process) => {
                let status = process.ended()?;
                let log = process.stderr();
                let last = log
                    .lines()
                    .rfind(|line| !line.trim().is_empty())
                    .unwrap_or("not a word");
                let tail = process.tail();
                Some(format!("`{}` ended with {status}: {last}\n{tail}", self.service))
            }
        };
        self.spawn();
        ended
    }
}

/// The members of a cluster.
#[derive(Debug)]
pub struct Cluster {
    pub speed: Vec<Member>,
    pub batch: Member,
    pub serve: Vec<Member>,
}

impl Cluster {
    /// Folders for `speed` and `serve` processes, and one `batch`. `settings` lead all of them to the same store and log.
    pub fn new(views_sql: &str, settings: &str, speed: usize, serve: usize) -> Self {
        let members = |service, count| (0..count).map(|_| Member::new(service, views_sql, settings)).collect();
        Self {
            speed: members("speed", speed),
            batch: Member::new("batch", views_sql, settings),
            serve: members("serve", serve),
        }
    }

    /// Starts all of them and waits until they are ready. The first `speed` goes ahead: it creates topics.
    pub fn start(&mut self) {
        let (first, others) = self.speed.split_first_mut().expect("a cluster has a speed process");
        first.spawn();
        first.ready();
        let mut others: Vec<&mut Member> = others
            .iter_mut()
            .chain([&mut self.batch])
            .chain(&mut self.serve)
            .collect();
        others.iter_mut().for_each(|member| member.spawn());
        others.iter_mut().for_each(|member| member.ready());
    }

    pub fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.speed
            .iter_mut()
            .chain([&mut self.batch])
            .chain(self.serve.iter_mut())
    }

    /// Copies the logs of all members into a folder, each with all its restarts.
    ///
    /// # Panics
    /// When they cannot be written there.
    pub fn keep_logs(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("the folder can be made");
        let members = self.speed.iter().chain([&self.batch]).chain(&self.serve);
        for (number, member) in members.enumerate() {
            let log = member.site.file(&format!("{}.err", member.service));
            let kept = folder.join(format!("{number}-{}.log", member.service));
            std::fs::copy(log, kept).expect("a log can be copied");
        }
    }

    /// The API of the first `serve`.
    pub fn http(&self) -> Http {
        self.serve[0].http()
    }
}

//! Owns what peers on node have in common: their packages, installed once, and the processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder that belongs into `node_modules`' neighbourhood: what npm installs, and files.
pub(crate) struct Package {
    /// The folder below `target/peers`.
    pub(crate) folder: &'static str,
    /// The packages whose versions are told.
    pub(crate) tell: &'static [&'static str],
    /// `package.json`, `package-lock.json` and what the server is made of, by path.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

const REMEDY: &str = "install Node.js with npm (nodejs.org, or apt install nodejs npm), or leave \
                      this peer out by --peers";

/// Of what a program that fails says, the first is the cause; npm goes on with its manual.
const SAID_LINES: usize = 12;

impl Package {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers").join(self.folder)
    }

    /// Installs what the lock file names, unless it is there; the versions of what is installed,
    /// as it says itself.
    pub(crate) fn install(&self) -> Result<String, String> {
        let node = output(Command::new("node").arg("--version"))?;
        let npm = output(Command::new("npm").arg("--version"))?;
        let lock = self.files.iter().find(|(path, _)| *path == "package-lock.json");
        let lock = lock.map(|(_, text)| *text).unwrap_or_default();
        // Written last: what a failed install leaves is not taken for one.
        let stamp = self.path().join("installed.json");
        let installed = fs::read_to_string(&stamp).is_ok_and(|was| was == lock);
        for (path, text) in self.files {
            let path = self.path().join(path);
            let write = || {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                fs::write(&path, text)
            };
            write().map_err(|e| format!("{}: {e}", path.display()))?;
        }
        if !installed {
            // Nothing of a package runs but what the server loads.
            let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
            output(Command::new("npm").args(ci).current_dir(self.path()))?;
            fs::write(&stamp, lock).map_err(|e| format!("{}: {e}", stamp.display()))?;
        }
        let ask = "process.argv.slice(1).map(p => p + ' ' + JSON.parse(require('fs').readFileSync(\
                   `node_modules/${p}/package.json`)).version).join(', ')";
        let ask = ["--print", ask, "--"];
        let told = output(Command::new("node").args(ask).args(self.tell).current_dir(self.path()))?;
        Ok(format!("{told}; node {node}, npm {npm}"))
    }

    /// Runs one of the files.
    pub(crate) fn node(&self, file: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(self.path().join(file)).env("NODE_ENV", "production");
        command
    }
}

/// What a program prints, if it does well.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ran = command.stdin(Stdio::null()).output();
    let ran = ran.map_err(|e| format!("{name} does not run ({e}): {REMEDY}"))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        let said = said.lines().filter(|line| !line.starts_with("npm warn"));
        let said = said.take(SAID_LINES).collect::<Vec<_>>().join("\n");
        return Err(format!("{command:?} failed ({}):\n{said}", ran.status));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
}

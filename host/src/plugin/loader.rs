//! Libraries: verified, copied, opened on first use, never closed.
//!
//! Promises: nothing of a library runs before its digest is that of the manifest, and the processor, the entry symbol and
//! its version are right. What is opened is a copy under a path made of the digest, so that replacing the installed file
//! changes nothing under a running worker, and versions live side by side. What it says about itself must agree with the
//! manifest. A library that was opened stays so for the life of the process: its code may be on some thread's stack.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library as UnixLibrary, RTLD_LOCAL, RTLD_NOW};
use object::read::elf::{ElfFile32, ElfFile64};
use object::{Architecture, Object, ObjectKind, ObjectSymbol};
use sha2::{Digest, Sha256};
use tributary_abi as abi;

use super::bridge::host_table;
use super::descriptor::{Descriptor, Tables};
use super::errors::PluginError;
use super::manifest::Manifest;

/// A library that may be opened.
#[derive(Debug)]
pub struct Library {
    manifest: Manifest,
    path: PathBuf,
    work_dir: PathBuf,
    /// `None` until first use. A failure is not kept: what was wrong may be mended.
    opened: Mutex<Option<Descriptor>>,
}

impl Library {
    /// A library beside its manifest; copies go below `work_dir`.
    pub fn new(manifest: Manifest, directory: &Path, work_dir: &Path) -> Self {
        let path = directory.join(&manifest.library);
        Self { manifest, path, work_dir: work_dir.to_owned(), opened: Mutex::new(None) }
    }

    /// What its manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it is installed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The function tables of a class; opens the library on first use.
    pub fn tables(&self, class: &str) -> Result<Tables, PluginError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptor = match &mut *opened {
            Some(descriptor) => descriptor,
            none => none.insert(self.open()?),
        };
        let found = descriptor.classes.iter().find(|known| known.name == class);
        found.map(|class| class.tables).ok_or_else(|| self.disagrees(format!("it has no class {class}")))
    }

    fn open(&self) -> Result<Descriptor, PluginError> {
        let copy = self.copy_verified()?;
        inspect(&copy, &self.path)?;
        let descriptor = execute(&copy, &self.path)?;
        self.compare(&descriptor)?;
        Ok(descriptor)
    }

    /// Copies the library while its digest is taken, so that what was verified is what is opened.
    fn copy_verified(&self) -> Result<PathBuf, PluginError> {
        let directory = self.work_dir.join(&self.manifest.sha256);
        fs::create_dir_all(&directory).map_err(|error| PluginError::io("cannot create", &directory, &error))?;
        let target = directory.join(&self.manifest.library);
        // An earlier copy will do, if nobody touched it.
        if target.exists() && digest(&target, None)? == self.manifest.sha256 {
            return Ok(target);
        }
        let temporary = directory.join(format!(".{}.{}", self.manifest.library, std::process::id()));
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o500)
            .open(&temporary)
            .map_err(|error| PluginError::io("cannot create", &temporary, &error))?;
        let copied = digest(&self.path, Some((&mut file, &temporary))).and_then(|found| {
            if found != self.manifest.sha256 {
                let (library, expected) = (self.path.clone(), self.manifest.sha256.clone());
                return Err(PluginError::WrongDigest { library, expected, found });
            }
            fs::rename(&temporary, &target).map_err(|error| PluginError::io("cannot create", &target, &error))
        });
        if copied.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        copied.map(|()| target)
    }

    fn disagrees(&self, reason: String) -> PluginError {
        PluginError::Disagrees { library: self.path.clone(), reason }
    }

    fn compare(&self, descriptor: &Descriptor) -> Result<(), PluginError> {
        for (what, ours, its) in
            [("name", &self.manifest.name, &descriptor.name), ("version", &self.manifest.version, &descriptor.version)]
        {
            if ours != its {
                return Err(self.disagrees(format!("the manifest has the {what} {ours}, the library {its}")));
            }
        }
        if let Some(extra) =
            descriptor.classes.iter().find(|class| !self.manifest.classes.iter().any(|known| known.name == class.name))
        {
            return Err(self.disagrees(format!("the manifest does not have the library's class {}", extra.name)));
        }
        for class in &self.manifest.classes {
            let Some(its) = descriptor.classes.iter().find(|its| its.name == class.name) else {
                return Err(self.disagrees(format!("the library does not have the manifest's class {}", class.name)));
            };
            if its.kind != class.kind {
                let (ours, its) = (class.kind.as_connect(), its.kind.as_connect());
                return Err(self.disagrees(format!("class {} is a {ours} in the manifest and a {its}", class.name)));
            }
            if its.config_def != class.config_def {
                return Err(self.disagrees(format!("class {} has another config definition", class.name)));
            }
        }
        Ok(())
    }
}

/// SHA-256 of a file, which is copied on the way where asked.
pub(super) fn digest(path: &Path, mut copy: Option<(&mut File, &Path)>) -> Result<String, PluginError> {
    let read = |error: std::io::Error| PluginError::io("cannot read", path, &error);
    let mut file = File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read(error)),
        };
        hasher.update(&buffer[..length]);
        if let Some((copy, target)) = &mut copy {
            copy.write_all(&buffer[..length]).map_err(|error| PluginError::io("cannot write", target, &error))?;
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Looks at the file without executing it: processor, and entry symbol of our version.
pub(super) fn inspect(copy: &Path, library: &Path) -> Result<(), PluginError> {
    let bytes = fs::read(copy).map_err(|error| PluginError::io("cannot read", copy, &error))?;
    let not = |reason: String| PluginError::NotALibrary { library: library.to_owned(), reason };
    let ours = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
    let (architecture, kind, symbols) = match bytes.get(..5) {
        Some([0x7F, b'E', b'L', b'F', 2]) => {
            let file: ElfFile64<'_> = ElfFile64::parse(&*bytes).map_err(|error| not(error.to_string()))?;
            (file.architecture(), file.kind(), exported(&file))
        }
        Some([0x7F, b'E', b'L', b'F', 1]) => {
            let file: ElfFile32<'_> = ElfFile32::parse(&*bytes).map_err(|error| not(error.to_string()))?;
            (file.architecture(), file.kind(), exported(&file))
        }
        _ => return Err(not("it is no ELF file".into())),
    };
    let expected = match std::env::consts::ARCH {
        "x86_64" => Architecture::X86_64,
        "aarch64" => Architecture::Aarch64,
        "riscv64" => Architecture::Riscv64,
        "powerpc64" => Architecture::PowerPc64,
        "s390x" => Architecture::S390x,
        "arm" => Architecture::Arm,
        "x86" => Architecture::I386,
        // Unknown to us: the linker will say.
        _ => architecture,
    };
    if architecture != expected || bytes[4] != ours {
        return Err(PluginError::WrongArchitecture {
            library: library.to_owned(),
            found: format!("{architecture:?}"),
            ours: format!("{expected:?}"),
        });
    }
    if kind != ObjectKind::Dynamic {
        return Err(not(format!("it is of the kind {kind:?}")));
    }
    if symbols.iter().any(|name| name == abi::ENTRY_SYMBOL) {
        return Ok(());
    }
    let other = symbols.iter().find_map(|name| {
        name.strip_prefix("tributary_plugin_v").filter(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Err(match other {
        Some(found) => PluginError::OtherAbi { plugin: library.display().to_string(), found: found.to_owned() },
        None => PluginError::NoEntrySymbol { library: library.to_owned() },
    })
}

fn exported<'data>(file: &impl Object<'data>) -> Vec<String> {
    file.dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| name.starts_with("tributary_plugin_v"))
        .collect()
}

/// Opens a library for good and asks it what it is. From here on its code runs.
pub(super) fn execute(copy: &Path, library: &Path) -> Result<Descriptor, PluginError> {
    let failed = |error: libloading::Error| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        PluginError::Open { library: library.to_owned(), reason }
    };
    // SAFETY: running the library's initialisers is the point; its digest is the one that was installed.
    let opened = unsafe { UnixLibrary::open(Some(copy), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
    // SAFETY: the symbol's name has the version of this signature in it.
    let entry = unsafe { opened.get::<abi::PluginEntry>(abi::ENTRY_SYMBOL.as_bytes()) }.map_err(failed)?;
    let entry: abi::PluginEntry = *entry;
    // Never closed: descriptors, tables, threads and thread-locals of the plugin stay valid.
    std::mem::forget(opened);
    let called = library.display().to_string();
    // SAFETY: the table is static, as the entry requires; what it answers is for `Descriptor::read` to doubt.
    unsafe { Descriptor::read(entry(host_table()), &called) }
}

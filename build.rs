//! Kernels: every `.cu` file below src/, as PTX for a GPU or as C++ for the emulated one.

#![allow(clippy::unwrap_used, reason = "a build that cannot go on has to stop")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// PTX for Ampere and all that came after it: drivers compile it for the GPU that is there.
const ARCHITECTURE: &str = "compute_80";

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    let mut sources = Vec::new();
    find(Path::new("src"), &mut sources);
    sources.sort();
    let headers = [
        "src/kernels/kernel.cuh",
        "src/runtime/gpu/emulator.h",
        "build.rs",
    ];
    for file in sources
        .iter()
        .map(PathBuf::as_path)
        .chain(headers.map(Path::new))
    {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    if env::var("CARGO_FEATURE_CUDA").is_ok() {
        compile(&sources, &out);
    }
    #[cfg(feature = "emulated-gpu")]
    emulate(&sources, &out);
}

fn find(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            sources.push(path);
        }
    }
}

/// The names that a file declares.
fn kernels(source: &Path) -> Vec<String> {
    let text = fs::read_to_string(source).unwrap();
    let declared = |line: &str| {
        let rest = line
            .strip_prefix("KERNEL(")
            .or_else(|| line.strip_prefix("COOPERATIVE("))?;
        Some(rest.split(',').next()?.trim().to_owned())
    };
    text.lines().filter_map(declared).collect()
}

/// ptx.rs: the PTX of each file, and the kernels in it.
fn compile(sources: &[PathBuf], out: &Path) {
    let nvcc = env::var("CUDA_HOME").map_or("nvcc".into(), |home| format!("{home}/bin/nvcc"));
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let mut table = String::from("const PTX: &[(&str, &[&str])] = &[\n");
    for source in sources {
        let ptx = out.join(source.file_name().unwrap()).with_extension("ptx");
        let status = Command::new(&nvcc)
            .args(["-ptx", "-std=c++17", "-O3", "-Isrc/kernels"])
            .arg(format!("-arch={ARCHITECTURE}"))
            .arg(source)
            .arg("-o")
            .arg(&ptx)
            .status()
            .unwrap_or_else(|error| panic!("{nvcc}: {error}; see tools/cuda_toolkit.py"));
        assert!(status.success(), "{} does not compile", source.display());
        table += &format!("    (include_str!({ptx:?}), &{:?}),\n", kernels(source));
    }
    fs::write(out.join("ptx.rs"), table + "];\n").unwrap();
}

/// emulated_kernels.rs: the functions that C++ makes of the kernels, by name.
#[cfg(feature = "emulated-gpu")]
fn emulate(sources: &[PathBuf], out: &Path) {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .flag("-xc++")
        .define("EMULATED", None)
        .opt_level(2);
    build
        .include("src/kernels")
        .include("src/runtime/gpu")
        .files(sources);
    build.compile("emulated_kernels");
    let names: Vec<String> = sources.iter().flat_map(|source| kernels(source)).collect();
    let mut code = String::from("unsafe extern \"C\" {\n");
    for name in &names {
        code += &format!(
            "    fn emulated_{name}(launch: *const Launch, arguments: *mut *mut c_void);\n"
        );
    }
    code += "}\n\nfn kernel(name: &str) -> Option<Kernel> {\n    Some(match name {\n";
    for name in &names {
        code += &format!("        {name:?} => emulated_{name},\n");
    }
    code += "        _ => return None,\n    })\n}\n";
    fs::write(out.join("emulated_kernels.rs"), code).unwrap();
}

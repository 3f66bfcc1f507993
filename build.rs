//! Kernels: every `.cu` file below src/, as a binary for GPUs or as C++ for the emulated one.

#![allow(clippy::unwrap_used, reason = "a build that cannot go on has to stop")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Instructions for Ampere (Ada runs them, too) and Hopper, and PTX, which drivers compile for all that came
/// after them. One compilation to PTX makes all three.
const ARCHITECTURES: &str = "-gencode=arch=compute_80,code=[sm_80,sm_90,compute_80]";

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    let (sources, headers) = (find("cu"), find("cuh"));
    let others = ["src/runtime/gpu/emulator.h", "build.rs"];
    for file in sources
        .iter()
        .chain(&headers)
        .map(PathBuf::as_path)
        .chain(others.map(Path::new))
    {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    if env::var("CARGO_FEATURE_CUDA").is_ok() {
        compile(&sources, &out);
    }
    #[cfg(feature = "emulated-gpu")]
    emulate(&sources, &out);
}

/// The files below src/ with an extension, in order.
fn find(extension: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![PathBuf::from("src")], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// What a kernel's elements are: f32, or bfloat16 where a file says `Element`.
const BFLOAT16: &str = "BFLOAT16";

fn has_elements(source: &Path) -> bool {
    fs::read_to_string(source).unwrap().contains("Element")
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

/// modules.rs: each file as a `Module` of cuda.rs.
fn compile(sources: &[PathBuf], out: &Path) {
    let nvcc = env::var("CUDA_HOME").map_or("nvcc".into(), |home| format!("{home}/bin/nvcc"));
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let mut table = String::from("const MODULES: &[Module] = &[\n");
    for source in sources {
        let kinds: &[bool] = if has_elements(source) {
            &[false, true]
        } else {
            &[false]
        };
        for &rounded in kinds {
            let suffix = if rounded { "bf16.fatbin" } else { "fatbin" };
            let binary = out.join(source.file_name().unwrap()).with_extension(suffix);
            let mut command = Command::new(&nvcc);
            command.args(["-fatbin", "-std=c++17", "-O3", "-Isrc/kernels"]);
            if rounded {
                command.arg(format!("-D{BFLOAT16}"));
            }
            let status = command
                .arg(ARCHITECTURES)
                .arg(source)
                .arg("-o")
                .arg(&binary)
                .status()
                .unwrap_or_else(|error| panic!("{nvcc}: {error}; see tools/cuda_toolkit.py"));
            assert!(status.success(), "{} does not compile", source.display());
            let names = kernels(source);
            table +=
                &format!("    (&Binary(*include_bytes!({binary:?})), {rounded}, &{names:?}),\n");
        }
    }
    fs::write(out.join("modules.rs"), table + "];\n").unwrap();
}

/// emulated_kernels.rs: the functions that C++ makes of the kernels, by name and whether their elements
/// are bfloat16.
#[cfg(feature = "emulated-gpu")]
fn emulate(sources: &[PathBuf], out: &Path) {
    let rounded: Vec<PathBuf> = sources
        .iter()
        .filter(|s| has_elements(s))
        .cloned()
        .collect();
    let (mut declared, mut listed) = (String::new(), String::new());
    for (define, suffix, sources) in [(None, "", sources), (Some(BFLOAT16), "_bf16", &rounded)] {
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++17")
            .flag("-xc++")
            .define("EMULATED", None);
        // fmaf is an instruction then, not a call; the tests run where they are built.
        build.flag_if_supported("-march=native");
        // Loops are unrolled for a GPU.
        build.flag_if_supported("-Wno-unknown-pragmas");
        build
            .opt_level(2)
            .out_dir(out.join(format!("emulated{suffix}")));
        if let Some(define) = define {
            build.define(define, None);
        }
        build
            .include("src/kernels")
            .include("src/runtime/gpu")
            .files(sources);
        build.compile(&format!("emulated_kernels{suffix}"));
        for name in sources.iter().flat_map(|source| kernels(source)) {
            let function = format!("emulated_{name}{suffix}");
            declared += &format!(
                "    fn {function}(launch: *const Launch, arguments: *mut *mut c_void);\n"
            );
            listed += &format!("        ({name:?}, {}) => {function},\n", define.is_some());
        }
    }
    let code = format!(
        "unsafe extern \"C\" {{\n{declared}}}\n\n\
         fn kernel(name: &str, rounded: bool) -> Option<Kernel> {{\n\
         Some(match (name, rounded) {{\n{listed}        _ => return None,\n    }})\n}}\n"
    );
    fs::write(out.join("emulated_kernels.rs"), code).unwrap();
}

//! As much of `protoc` as prost-build asks for: `-I DIR`, `-o FILE`, the files to compile.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut include, mut files, mut out) = (Vec::new(), Vec::new(), None::<PathBuf>);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-I" => include.extend(args.next()),
            "-o" => out = args.next().map(Into::into),
            "--version" => return Ok(println!("libprotoc 3.21 (protox)")),
            flag if flag.starts_with("-I") => include.push(flag[2..].to_owned()),
            flag if flag.starts_with("--") => {}
            file => files.push(file.to_owned()),
        }
    }
    let mut compiler = protox::Compiler::new(include)?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let set = compiler.encode_file_descriptor_set();
    Ok(fs::write(out.ok_or("-o is missing")?, set)?)
}

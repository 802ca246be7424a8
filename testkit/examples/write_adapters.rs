//! Writes adapters of random numbers for SmolLM2-135M as PEFT folders `000`, `001` and so on:
//! `write_adapters FOLDER COUNT RANK q_proj,v_proj`.

use std::path::Path;

use souk_protocol::peft::Module;
use souk_testkit::base::SMOLLM2;
use souk_testkit::peft::RandomAdapter;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count, rank, targets] = arguments.as_slice() else {
        return Err("write_adapters FOLDER COUNT RANK MODULE,MODULE".into());
    };
    let is_target = |module: &Module| targets.split(',').any(|target| module.name().ends_with(target));
    let modules: Vec<Module> = Module::OF_LAYER.into_iter().filter(is_target).collect();
    let adapter = RandomAdapter {
        shape: &SMOLLM2,
        base: "HuggingFaceTB/SmolLM2-135M-Instruct",
        modules: &modules,
        rank: rank.parse()?,
        is_dora: false,
        size: 0.008,
    };
    for number in 0..count.parse()? {
        let folder = Path::new(folder).join(format!("{number:03}"));
        std::fs::create_dir_all(&folder)?;
        adapter.files(number).write(&folder)?;
    }
    Ok(())
}

//! What a component is made of, as its sections say it: read once, without validating or compiling.

use std::collections::BTreeSet;

use wasmparser::{ComponentExternalKind, FunctionBody, MemorySectionReader, Parser, Payload, TableSectionReader};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Names that the component imports.
    pub(super) imports: BTreeSet<String>,
    /// Names of instances that it exports.
    pub(super) exports: BTreeSet<String>,
    /// Core modules, however deep.
    pub(super) num_modules: u64,
    /// Components within it, however deep.
    pub(super) num_components: u64,
    /// How deep they are.
    pub(super) depth: u64,
    /// Instances that are made, of modules and of components.
    pub(super) num_instances: u64,
    pub(super) num_functions: u64,
    /// Bytes of the largest function.
    pub(super) function_bytes: u64,
    /// Most locals of a function.
    pub(super) num_locals: u64,
    /// Bytes that memories begin with, all together.
    pub(super) memory_bytes: u64,
    /// Entries that tables begin with, all together.
    pub(super) table_elements: u64,
}

impl Outline {
    pub(super) fn read(bytes: &[u8]) -> wasmparser::Result<Self> {
        let (mut outline, mut depth) = (Self::default(), 0_u64);
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } => {
                    depth += 1;
                    outline.num_modules += 1;
                }
                Payload::ComponentSection { .. } => {
                    depth += 1;
                    outline.num_components += 1;
                    outline.depth = outline.depth.max(depth);
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload => outline.see(&payload, depth == 0)?,
            }
        }
        Ok(outline)
    }

    fn see(&mut self, payload: &Payload<'_>, is_outermost: bool) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentImportSection(imports) if is_outermost => {
                for import in imports.clone() {
                    self.imports.insert(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if is_outermost => {
                for export in exports.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        self.exports.insert(export.name.name.to_owned());
                    }
                }
            }
            Payload::InstanceSection(instances) => self.num_instances += u64::from(instances.count()),
            Payload::ComponentInstanceSection(instances) => self.num_instances += u64::from(instances.count()),
            Payload::CodeSectionEntry(body) => self.see_function(body)?,
            Payload::MemorySection(memories) => self.see_memories(memories)?,
            Payload::TableSection(tables) => self.see_tables(tables)?,
            _ => {}
        }
        Ok(())
    }

    fn see_function(&mut self, body: &FunctionBody<'_>) -> wasmparser::Result<()> {
        self.num_functions += 1;
        self.function_bytes = self.function_bytes.max(body.range().len() as u64);
        let mut num_locals = 0_u64;
        for group in body.get_locals_reader()? {
            num_locals = num_locals.saturating_add(group?.0.into());
        }
        self.num_locals = self.num_locals.max(num_locals);
        Ok(())
    }

    fn see_memories(&mut self, memories: &MemorySectionReader<'_>) -> wasmparser::Result<()> {
        for memory in memories.clone() {
            let memory = memory?;
            let page_bytes = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
            let bytes = memory.initial.saturating_mul(page_bytes);
            self.memory_bytes = self.memory_bytes.saturating_add(bytes);
        }
        Ok(())
    }

    fn see_tables(&mut self, tables: &TableSectionReader<'_>) -> wasmparser::Result<()> {
        for table in tables.clone() {
            self.table_elements = self.table_elements.saturating_add(table?.ty.initial);
        }
        Ok(())
    }
}

//! stub
/// # Errors
/// stub
pub fn become_sealed_copy() -> anyhow::Result<()> {
    Ok(())
}

"""TLS as PS3.15 Annex B has it: files, profiles and what connects with them."""

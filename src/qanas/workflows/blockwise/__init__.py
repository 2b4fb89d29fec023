"""Block-wise search: teacher, features, distilled supernets, tables, exact front (Lu et al. 2023)."""

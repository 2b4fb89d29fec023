"""What a recipe asks for, as objects: the plan, what depends on what in it, the scheme it settles on, who watches."""

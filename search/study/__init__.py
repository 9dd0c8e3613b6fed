"""What a study is: its settings, its spec, who wins; and where its files lie."""

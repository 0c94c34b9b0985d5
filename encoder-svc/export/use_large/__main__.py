from export.use_large.convert import main

if __name__ == "__main__":
    raise SystemExit(main())

from embedstream.local.commands import main

main()

package injection

// tongues are orders to drop the orders there are, and requests for these, in other
// languages than English. Letters beyond ASCII are in the case in which sentences
// have them.
var tongues = []sign{
	// German.
	{[]string{"ignorier", "ignoriere", "ignorieren", "vergiss", "vergessen sie", "missachte", "missachten", "abweichend zu", "lassen sie", "beachte nicht"}, near + `(?:alle[sn]?|vorherig\w*|bisherig\w*|vorangehend\w*|vorangegangen\w*|obige\w*|vorigen|deine|ihre)\s?[^.!?\n]{0,30}(?:anweisung|befehl|aufgabe|instruktion|regel|angabe|information|vorgabe|davor|gesagte|bisherige|ausführung|aufträge|hinter sich)`, 9},
	{[]string{"anweisungen", "obigen", "vorherigen", "alles davor"}, near + `(?:ignorieren|vergessen|missachten|zu streichen)`, 9},
	{[]string{"zeig", "zeige", "zeigen sie", "nenne", "gib mir", "vorzeigen"}, near + `(?:prompt|systemanweisung|anweisungen)`, 6},
	{[]string{"neue anweisungen", "neue aufgaben", "neuen aufgabe", "neue aufgabe", "weitere aufgaben"}, ``, 6},
	{[]string{"du bist jetzt", "du bist nun", "sie sind jetzt", "jetzt bist du", "nun bist du", "ab jetzt bist", "dass sie als", "dass du als"}, nearer, 6},
	// French.
	{[]string{"ignore", "ignorez", "ignorer", "oublie", "oubliez", "oublier", "ne tiens pas compte", "ne tenez pas compte", "ne suis pas", "ne suivez pas"}, near + `(?:instructions|consignes|directives|règles|ordres|tout ce qui)[^.!?\n]{0,30}(?:précéd|antérieur|ci-dessus|avant|reçu|donné)`, 9},
	{[]string{"ignore", "ignorez", "oublie", "oubliez"}, `\s(?:toutes|tes|vos|les)\s[^.!?\n]{0,30}(?:instructions|consignes|directives|règles|ordres)`, 9},
	{[]string{"tu es maintenant", "vous êtes maintenant", "à partir de maintenant", "nouvelles instructions", "nouvelles consignes", "invite système"}, ``, 6},
	// Spanish and Portuguese.
	{[]string{"ignora", "ignore", "ignoren", "ignorar", "olvida", "olvide", "olvidad", "olvidar", "olvídate", "haz caso omiso", "omite", "desconsidere", "desconsidera", "esqueça", "esquece", "esqueca", "não siga", "no sigas"}, near + `(?:instrucci|órdenes|ordenes|reglas|indicaciones|directrices|instruç|instruco|ordens|regras|comandos|mensajes anteriores|tudo o que|todo lo|todo que|todo lo anterior|tudo)`, 9},
	{[]string{"ahora eres", "a partir de ahora", "nuevas instrucciones", "nueva tarea", "agora você é", "a partir de agora", "novas instruções", "prompt del sistema", "prompt do sistema", "instrucciones del sistema"}, ``, 6},
	// Italian.
	{[]string{"ignora", "ignorate", "ignorare", "dimentica", "dimenticate", "trascura", "non seguire"}, near + `(?:istruzioni|regole|ordini|comandi|direttive|tutto quello|tutto ciò)`, 9},
	{[]string{"ora sei", "adesso sei", "d'ora in poi", "nuove istruzioni", "prompt di sistema"}, ``, 6},
	// Dutch and Swedish.
	{[]string{"negeer", "vergeet", "ignorera", "glöm", "bortse från"}, near + `(?:instructies|opdrachten|regels|aanwijzingen|alles hiervoor|bovenstaande|instruktioner|regler|allt ovan|tidigare)`, 9},
	{[]string{"je bent nu", "vanaf nu ben", "nieuwe instructies", "du är nu", "nya instruktioner"}, ``, 6},
	// Polish, Czech, and the languages of the former Yugoslavia.
	{[]string{"zignoruj", "ignoruj", "zapomnij", "pomiń", "zapome", "zaboravi", "ignoriši", "ignorisi", "ignoriraj", "zanemari", "nie przestrzegaj"}, near + `(?:instrukc|polece|wszystk|zasad|pokyn|všechn|předchoz|upute|naredbe|pravila|sve |prethodn)`, 9},
	{[]string{"od teraz jeste", "nowe instrukcje", "nové pokyny", "nove instrukcije", "od sada si", "od teď jsi"}, ``, 6},
	// Russian and Ukrainian.
	{[]string{"игнорируй", "Игнорируй", "гнорируйте", "проигнорируй", "Проигнорируй", "забудь", "Забудь", "не обращай внимания", "Не обращай внимания", "ігноруй", "Ігноруй", "проігноруй", "Проігноруй"}, `[^.!?\n]{0,60}(?:инструкци|указани|команд|правил|всё|все |предыдущ|інструкці|вказівк|попередні|усе|промпт)`, 9},
	{[]string{"теперь ты", "Теперь ты", "отныне ты", "Отныне ты", "новые инструкции", "Новые инструкции", "системный промпт", "Системный промпт", "тепер ти", "Тепер ти", "системн"}, `[^.!?\n]{0,20}(?:промпт|подсказк|—|-|ты|будешь|это|інструкц|инструкц)?`, 6},
	// Turkish, Indonesian, Vietnamese.
	{[]string{"nceki", "yukar", "talimatlar"}, `[^.!?\n]{0,60}(?:yoksay|yok say|unut|görmezden|dikkate alma)`, 9},
	{[]string{"abaikan", "lupakan", "hiraukan"}, near + `(?:instruksi|perintah|semua|petunjuk|aturan)`, 9},
	{[]string{"bỏ qua", "quên", "phớt lờ"}, `[^.!?\n]{0,60}(?:hướng dẫn|chỉ dẫn|lệnh|chỉ thị|mọi thứ|tất cả)`, 9},
	// Chinese, Japanese, Korean.
	{[]string{"忽略", "忽视", "忽視", "无视", "無視", "忘记", "忘記", "忘掉", "不要理会", "不要遵守", "不要遵循", "抛开"}, `[^。！？\n]{0,30}(?:指令|指示|说明|說明|提示|规则|規則|命令|之前|以上|上面|先前)`, 9},
	{[]string{"指示", "命令", "ルール", "プロンプト", "指令", "制約", "上記", "これまで"}, `[^。！？\n]{0,30}(?:無視|忘れ|従わない|破棄)`, 9},
	{[]string{"지시", "명령", "지침", "프롬프트", "규칙", "이전"}, `[^.!?。\n]{0,40}(?:무시|잊어|잊고|따르지)`, 9},
	{[]string{"系统提示", "系統提示", "システムプロンプト", "시스템 프롬프트", "你现在是", "你現在是", "从现在开始你", "從現在開始你", "あなたは今から", "今からあなたは", "너는 이제", "당신은 이제", "新的指令", "新しい指示", "새로운 지시"}, ``, 6},
	// Arabic, Persian, Hebrew, Hindi, Bengali.
	{[]string{"تجاهل", "انس ", "انسَ", "نادیده بگیر", "فراموش کن"}, `[^.!؟\n]{0,60}(?:تعليمات|التعليمات|الأوامر|أوامر|السابق|القواعد|كل ما|دستور|قبلی|دستورات)?`, 6},
	{[]string{"دستورات قبلی", "دستورالعمل", "התעלם", "תתעלם", "תשכח", "שכח"}, `[^.!?\n]{0,60}(?:نادیده|فراموش|הוראות|ההוראות|הנחיות|הכל|קודמ)`, 9},
	{[]string{"निर्देश", "आदेश", "पिछले", "पिछली", "নির্দেশ"}, `[^।!?\n]{0,60}(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|भूल|उपेक्षा|উপেক্ষা|ভুলে)`, 9},
}
